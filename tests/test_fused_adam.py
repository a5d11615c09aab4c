"""FusedAdam against the paper's algorithm and against Keras's Adam."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_unet_diffusion.training.fused_adam import FusedAdam

SHAPES = [(3, 4), (4,), ()]
WARM_UP = keras.optimizers.schedules.CosineDecay(
    0.0, 30, alpha=0.1, warmup_target=0.05, warmup_steps=10
)


def start_values():
    random = np.random.default_rng(0)
    return [random.standard_normal(x).astype("float32") for x in SHAPES]


def make_optimizer(optimizer_class, **options):
    """An optimizer of three weights that start at fixed values."""
    variables = [keras.Variable(x) for x in start_values()]
    optimizer = optimizer_class(**{"learning_rate": 0.05} | options)
    optimizer.build(variables)
    return optimizer, variables


def gradients_of_steps(num_steps=50):
    """Gradients of very different sizes, step by step, numpy."""
    random = np.random.default_rng(1)
    sizes = (1e-4, 1.0, 100.0)
    return [
        [
            (size * random.standard_normal(shape)).astype("float32")
            for size, shape in zip(sizes, SHAPES, strict=True)
        ]
        for _ in range(num_steps)
    ]


def weights_after(optimizer, variables, steps, jit_compile=False):
    """All weights after the steps; the optimizer runs in a graph."""

    @tf.function(jit_compile=jit_compile)
    def apply(*gradients):
        optimizer.apply(list(gradients))

    for gradients in steps:
        apply(*map(tf.constant, gradients))
    return [x.numpy() for x in variables]


def assert_close(weights, expected):
    # 50 steps of 0.05. Keras computes 1 - beta_2 in float64 and TensorFlow
    # in float32: the second moments differ by 1.3e-5, a step by half that,
    # so at most 2e-5 in all.
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_updates_are_those_of_the_paper(jit_compile):
    steps = gradients_of_steps()
    expected = [x.astype("float64") for x in start_values()]
    first, second = [0.0] * 3, [0.0] * 3
    for t, gradients in enumerate(steps, start=1):
        rate = 0.05 * np.sqrt(1 - 0.99**t) / (1 - 0.8**t)
        for k, gradient in enumerate(gradients):
            gradient = gradient.astype("float64")
            first[k] = 0.8 * first[k] + 0.2 * gradient
            second[k] = 0.99 * second[k] + 0.01 * gradient**2
            expected[k] -= rate * first[k] / (np.sqrt(second[k]) + 1e-3)
    # An epsilon above the smallest gradients: its place in the formula tells.
    optimizer, variables = make_optimizer(
        FusedAdam, beta_1=0.8, beta_2=0.99, epsilon=1e-3
    )
    assert_close(
        weights_after(optimizer, variables, steps, jit_compile), expected
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"learning_rate": WARM_UP},
        {"weight_decay": 0.1},
        {"global_clipnorm": 1.0},
        {"clipnorm": 0.5},
        {"clipvalue": 0.1},
        {"gradient_accumulation_steps": 4},
        {"loss_scale_factor": 8.0},
    ],
    ids=lambda options: next(iter(options), "plain"),
)
def test_fifty_steps_agree_with_kerass_adam(options):
    steps = gradients_of_steps()
    assert_close(
        weights_after(*make_optimizer(FusedAdam, **options), steps),
        weights_after(*make_optimizer(keras.optimizers.Adam, **options), steps),
    )


def test_loss_scaling_skips_and_grows_as_with_kerass_adam():
    # The scale doubles every three finite steps; a gradient that overflowed
    # changes nothing but the scale.
    steps = [[1024 * x for x in xs] for xs in gradients_of_steps(12)]
    steps[5][0][1, 2] = np.inf
    ends = []
    for optimizer_class in (FusedAdam, keras.optimizers.Adam):
        inner, variables = make_optimizer(optimizer_class)
        optimizer = keras.optimizers.LossScaleOptimizer(
            inner, initial_scale=1024.0, dynamic_growth_steps=3
        )
        optimizer.build(variables)
        weights = weights_after(optimizer, variables, steps)
        ends.append((weights, float(optimizer.dynamic_scale)))
        assert int(inner.iterations) == 11
    assert ends[0][1] == ends[1][1]
    assert_close(ends[0][0], ends[1][0])


def test_either_goes_on_from_the_others_checkpoint():
    steps = gradients_of_steps()
    start, variables = make_optimizer(FusedAdam)
    expected = weights_after(*make_optimizer(FusedAdam), steps)
    for next_class in (keras.optimizers.Adam, FusedAdam):
        part, steps = steps[:20], steps[20:]
        weights_after(start, variables, part)
        store = {}
        start.save_own_variables(store)
        then, then_variables = make_optimizer(next_class)
        for old, new in zip(variables, then_variables, strict=True):
            new.assign(old)
        then.load_own_variables(store)
        start, variables = then, then_variables
    assert_close(weights_after(start, variables, steps), expected)


def test_a_saved_model_brings_its_optimizer_back(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(FusedAdam(WARM_UP, weight_decay=0.1, epsilon=1e-5), "mse")
    model.fit(np.ones((8, 3)), np.ones((8, 2)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is FusedAdam
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for one, other in zip(
        loaded.optimizer.variables, model.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_rows_of_an_embedding_that_occur_twice_are_summed():
    rows = tf.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    sparse = tf.IndexedSlices(rows, tf.constant([0, 2, 0]), tf.constant([3, 2]))
    dense = tf.constant([[6.0, 8.0], [0.0, 0.0], [3.0, 4.0]])
    ends = []
    for gradient in (sparse, dense):
        variable = keras.Variable(np.ones((3, 2), "float32"))
        optimizer = FusedAdam(0.1)
        optimizer.build([variable])
        for _ in range(3):
            optimizer.apply([gradient])
        ends.append(variable.numpy())
    np.testing.assert_array_equal(ends[0], ends[1])
    assert (ends[0][1] == 1).all()


def operation_types(optimizer, variables, gradients):
    step = tf.function(lambda: optimizer.apply(gradients))
    graph = step.get_concrete_function().graph
    return [operation.type for operation in graph.get_operations()]


def test_a_weight_takes_one_operation():
    gradients = gradients_of_steps(1)[0]
    names = operation_types(*make_optimizer(FusedAdam), gradients)
    assert names.count("ResourceApplyAdam") == 3
    # Only the count of steps is assigned apart.
    assert sum(x.startswith("Assign") for x in names) == 1


@pytest.mark.parametrize(
    ("options", "dtype"), [({"amsgrad": True}, "float32"), ({}, "bfloat16")]
)
def test_what_cannot_be_fused_is_kerass_adam(options, dtype):
    ends = []
    for optimizer_class in (FusedAdam, keras.optimizers.Adam):
        variable = keras.Variable(np.ones((3, 2)), dtype=dtype)
        optimizer = optimizer_class(0.1, **options)
        optimizer.build([variable])
        for k in range(5):
            optimizer.apply([tf.fill((3, 2), tf.cast(k - 1.5, dtype))])
        ends.append(keras.ops.convert_to_numpy(variable))
    np.testing.assert_array_equal(ends[0], ends[1])


def test_bfloat16_gradients_of_float32_weights_are_taken():
    optimizer, variables = make_optimizer(FusedAdam)
    gradients = [tf.ones(x, "bfloat16") for x in SHAPES]
    optimizer.apply(gradients)
    # The first step is the learning rate, whatever the gradient's size.
    for variable, before in zip(variables, start_values(), strict=True):
        np.testing.assert_allclose(variable, before - 0.05, atol=1e-5)


ON_TWO_REPLICAS = """
import keras, numpy as np, tensorflow as tf
from keras_unet_diffusion.training.fused_adam import FusedAdam

cpu, = tf.config.list_physical_devices("CPU")
halves = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, halves)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
ends = []
for optimizer_class in (FusedAdam, keras.optimizers.Adam):
    with strategy.scope():
        variable = keras.Variable(np.ones((3, 2), "float32"))
        optimizer = optimizer_class(0.1, weight_decay=0.01)
        optimizer.build([variable])

    @tf.function
    def step():
        def apply():
            replica = tf.distribute.get_replica_context()
            k = tf.cast(replica.replica_id_in_sync_group, "float32")
            optimizer.apply([variable * (k - 0.3)])
        strategy.run(apply)

    for _ in range(5):
        step()
    copies = strategy.experimental_local_results(variable.value)
    np.testing.assert_array_equal(copies[0].numpy(), copies[1].numpy())
    ends.append(copies[0].numpy())
assert np.abs(ends[0] - 1).max() > 0.3
np.testing.assert_allclose(ends[0], ends[1], atol=1e-5)
"""
ON_JAX = """
import jax.numpy as jnp, keras, numpy as np
from keras_unet_diffusion.training.fused_adam import FusedAdam

ends = []
for optimizer_class in (FusedAdam, keras.optimizers.Adam):
    variable = keras.Variable(np.ones((3, 2), "float32"))
    optimizer = optimizer_class(0.1)
    optimizer.build([variable])
    for k in range(5):
        optimizer.apply([jnp.full((3, 2), k - 1.5)])
    ends.append(np.asarray(variable))
np.testing.assert_array_equal(*ends)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "backend"),
    [(ON_TWO_REPLICAS, "tensorflow"), (ON_JAX, "jax")],
    ids=["two_replicas", "jax"],
)
def test_it_agrees_with_kerass_adam_elsewhere_too(program, backend):
    if backend == "jax":
        pytest.importorskip("jax")
    # Of its own: devices and the backend are chosen once in a process.
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
