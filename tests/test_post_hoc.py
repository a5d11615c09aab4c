"""Averages made after training, against sums over every update."""

import numpy as np
import pytest
from scipy.integrate import quad

from keras_unet_diffusion.training.averaging import power_function_exponent
from keras_unet_diffusion.training.post_hoc import (
    power_function_profile,
    reconstruction_coefficients,
)

NUM_TIMES, UPDATES_BETWEEN = 64, 50
NUM_UPDATES = NUM_TIMES * UPDATES_BETWEEN
STEPS = np.repeat(np.arange(1, NUM_TIMES + 1) * UPDATES_BETWEEN, 2)
DEVIATIONS = np.tile([0.05, 0.1], NUM_TIMES)


def profile(gamma, step):
    """The continuous profile as published, a function of t."""
    return lambda t: (gamma + 1) * t**gamma / step ** (gamma + 1)


def weights_over_time(seed=0):
    """Four weights after each update: how weights move in training."""
    random = np.random.default_rng(seed)
    t = np.arange(1, NUM_UPDATES + 1) / NUM_UPDATES
    steps = random.standard_normal(NUM_UPDATES)
    return {
        "a walk": np.cumsum(steps) / NUM_UPDATES**0.5,
        "noise": steps,
        "a decay": np.exp(-8 * t),
        "a swing": np.sin(40 * t),
    }


def followed(values, relative_deviation, steps):
    """The published recursion in float64, its values after `steps`."""
    power = power_function_exponent(relative_deviation) + 1
    average, averages = 0.0, []
    for t, value in enumerate(values, start=1):
        beta = (1 - 1 / t) ** power
        average = beta * average + (1 - beta) * value
        averages.append(average)
    return np.array(averages)[np.asarray(steps) - 1]


def stored(values):
    """What a run stores of a weight, in the order of `STEPS`."""
    averages = np.empty(len(STEPS))
    for deviation in (0.05, 0.1):
        chosen = DEVIATIONS == deviation
        averages[chosen] = followed(values, deviation, STEPS[chosen])
    return averages


@pytest.mark.parametrize("relative_deviation", [0.03, 0.1, 0.28])
def test_the_profile_is_what_the_recursion_gives_each_update(
    relative_deviation,
):
    shares = power_function_profile(relative_deviation, 40)
    for k, unit in enumerate(np.eye(40)):
        (found,) = followed(unit, relative_deviation, [40])
        # 40 float64 roundings.
        assert shares[k] == pytest.approx(found, abs=1e-14)


@pytest.mark.parametrize(
    ("relative_deviation", "tolerance"),
    # Above what the worst of the four weights is off by, in deviations of
    # that weight: most where profiles reach back to before the first time.
    [(0.03, 2e-4), (0.07, 2e-5), (0.15, 1e-5), (0.2, 2e-4), (0.25, 7e-3)],
)
@pytest.mark.parametrize("kind", ["a walk", "noise", "a decay", "a swing"])
def test_a_reconstruction_is_the_weighted_mean_of_all_updates(
    kind, relative_deviation, tolerance
):
    values = weights_over_time()[kind]
    coefficients, error = reconstruction_coefficients(
        STEPS, DEVIATIONS, NUM_UPDATES, relative_deviation
    )
    shares = power_function_profile(relative_deviation, NUM_UPDATES)
    found, expected = coefficients @ stored(values), shares @ values
    assert abs(found - expected) < tolerance * np.std(values)
    # Cauchy and Schwarz: no weights whatever can be off by more.
    bound = error * np.linalg.norm(shares) * np.linalg.norm(values)
    assert abs(found - expected) <= bound


def test_the_stored_averages_themselves_are_further_off():
    values = weights_over_time()["a walk"]
    expected = power_function_profile(0.07, NUM_UPDATES) @ values
    for average in stored(values)[-2:]:
        assert abs(average - expected) > 0.02 * np.std(values)


@pytest.mark.parametrize("relative_deviation", [0.05, 0.1])
@pytest.mark.parametrize("time", [1, 30, NUM_TIMES])
def test_a_stored_average_is_reconstructed_by_itself_alone(
    time, relative_deviation
):
    step = time * UPDATES_BETWEEN
    coefficients, error = reconstruction_coefficients(
        STEPS, DEVIATIONS, step, relative_deviation
    )
    alone = (STEPS == step) & (DEVIATIONS == relative_deviation)
    # The system's condition number is 2e5, and float64 rounds off 1e-16.
    np.testing.assert_allclose(coefficients, alone, atol=1e-10)
    # The root of a difference of numbers near 1.
    assert error < 1e-7


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((0.05, 90), (0.1, 90)),
        ((0.05, 37), (0.2, 90)),
        ((0.2, 37), (0.1, 90)),
    ],
)
def test_the_coefficients_minimise_the_integrated_square(first, second):
    # Of two averages, by integrals: the normal equations of the two.
    functions = [
        profile(power_function_exponent(d), s) for d, s in (first, second)
    ]
    ends = [first[1], second[1]]
    target, end = profile(power_function_exponent(0.12), 90), 90

    def product(f, f_end, g, g_end):
        return quad(lambda t: f(t) * g(t), 0, min(f_end, g_end))[0]

    matrix = [
        [product(f, a, g, b) for g, b in zip(functions, ends, strict=True)]
        for f, a in zip(functions, ends, strict=True)
    ]
    wanted = [
        product(f, a, target, end) for f, a in zip(functions, ends, strict=True)
    ]
    expected = np.linalg.solve(matrix, wanted)
    expected /= expected.sum()
    found, error = reconstruction_coefficients(
        ends, [first[0], second[0]], end, 0.12
    )
    # quad is right to about 1e-8 here.
    np.testing.assert_allclose(found, expected, rtol=1e-6)

    def difference(t):
        return target(t) - sum(
            x * f(t) * (t <= b)
            for x, f, b in zip(expected, functions, ends, strict=True)
        )

    square = quad(lambda t: difference(t) ** 2, 0, 90, points=ends[:1])[0]
    norm = product(target, end, target, end)
    assert error == pytest.approx(np.sqrt(square / norm), rel=1e-5)


def test_a_weight_that_never_changes_is_kept():
    # Few and far between, so that the profile is badly met.
    coefficients, error = reconstruction_coefficients(
        [100, 100, 200, 200], [0.05, 0.1, 0.05, 0.1], 200, 0.02
    )
    assert error > 0.3
    # Four float64 roundings.
    assert coefficients.sum() == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("relative_deviation", [0.03, 0.07, 0.15, 0.25])
def test_more_averages_express_a_profile_better(relative_deviation):
    errors = []
    for every in (1, 2, 4, 8):
        chosen = STEPS % (every * UPDATES_BETWEEN) == 0
        _, error = reconstruction_coefficients(
            STEPS[chosen], DEVIATIONS[chosen], NUM_UPDATES, relative_deviation
        )
        errors.append(error)
    assert errors == sorted(errors)
    assert errors[-1] > 5 * errors[0]


def test_the_same_average_twice_is_refused():
    with pytest.raises(ValueError, match=r"steps=\[5.0, 5.0\]"):
        reconstruction_coefficients([5, 5], [0.1, 0.1], 5, 0.1)
