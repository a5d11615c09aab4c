"""The training objective: what the network is given, and what it costs."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_unet_diffusion import (
    DiffusionModel,
    DiffusionProcess,
    EDMPrediction,
    EDMSchedule,
    EDMWeighting,
    LinearSchedule,
    LogNormalTimes,
)
from keras_unet_diffusion.network_calls import NetworkCalls
from keras_unet_diffusion.objective import Objective
from keras_unet_diffusion.training import Augmentation
from keras_unet_diffusion.training.draws import Draws
from keras_unet_diffusion.training.importance import LossHistory
from keras_unet_diffusion.training.uncertainty import Uncertainty

SHAPE = (4, 4, 1)


@keras.saving.register_keras_serializable(package="tests")
class Recorder(keras.layers.Layer):
    """Gives zeros and remembers its inputs."""

    def __init__(self, channels=1, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.seen = []

    def call(self, inputs):
        self.seen.append(inputs)
        return ops.repeat(0.0 * inputs["noisy_images"], self.channels, axis=-1)


def recording_network(channels=1, num_classes=None, **others):
    """A network that records; `others` are further inputs by shape."""
    inputs = {
        "noisy_images": keras.Input(SHAPE, name="noisy_images"),
        "noise_level": keras.Input((), name="noise_level"),
    } | {name: keras.Input(shape, name=name) for name, shape in others.items()}
    if num_classes:
        inputs["labels"] = keras.Input((), dtype="int32", name="labels")
    recorder = Recorder(channels)
    network = keras.Model(inputs, recorder(inputs))
    recorder.seen.clear()
    network.recorder = recorder
    network.num_classes = num_classes
    network.null_label = "learned" if num_classes else None
    return network


def mean_loss(objective, network, x_0, labels=None, training=True):
    draws = Draws(3, 0, len(x_0))
    losses, t = objective.losses(network, x_0, labels, draws, training)
    assert losses.shape == t.shape == (len(x_0),)
    return ops.mean(losses)


def images(count, seed=0):
    random = np.random.default_rng(seed)
    return random.uniform(-1, 1, (count, *SHAPE)).astype("float32")


def test_the_loss_of_a_network_that_knows_nothing_is_the_noises_variance():
    network = recording_network()
    loss = mean_loss(Objective(DiffusionProcess()), network, images(4000))
    # 64,000 squared normal numbers: deviation sqrt(2 / 64,000), five of them.
    assert float(loss) == pytest.approx(1, abs=5 * (2 / 64_000) ** 0.5)


def test_edms_weighted_loss_of_such_a_network_is_about_one_at_every_level():
    process = DiffusionProcess(
        EDMSchedule(), EDMPrediction(), EDMWeighting(), LogNormalTimes()
    )
    network = recording_network()
    # Data of the deviation that the preconditioning is made for.
    random = np.random.default_rng(0)
    x_0 = 0.5 * random.standard_normal((4000, *SHAPE)).astype("float32")
    loss = mean_loss(Objective(process), network, x_0)
    # Karras et al. 2022, appendix B.6: unit variance of the target. Five
    # standard errors.
    assert float(loss) == pytest.approx(1, abs=5 * (2 / 64_000) ** 0.5)
    seen = network.recorder.seen[0]["noisy_images"]
    # c_in brings what the network sees to unit variance too.
    assert float(ops.std(seen)) == pytest.approx(1, abs=0.02)


def test_a_share_of_the_labels_is_left_out_in_training_alone():
    network = recording_network(num_classes=10)
    objective = Objective(DiffusionProcess(), label_dropout=0.25)
    labels = np.arange(10_000, dtype="int32") % 10
    for training in (True, False):
        mean_loss(objective, network, images(10_000), labels, training=training)
    trained, validated = (x["labels"].numpy() for x in network.recorder.seen)
    np.testing.assert_array_equal(validated, labels)
    is_left_out = trained == 10
    np.testing.assert_array_equal(trained[~is_left_out], labels[~is_left_out])
    # Five standard deviations of a share of 10,000.
    share = 5 * (0.25 * 0.75 / 10_000) ** 0.5
    assert is_left_out.mean() == pytest.approx(0.25, abs=share)


def test_offset_noise_is_one_number_for_each_image_and_channel():
    network = recording_network()
    process = DiffusionProcess(LinearSchedule(2, 0.5, 0.999))
    plain, offset = (
        Objective(process, offset_noise=strength) for strength in (0.0, 0.7)
    )
    clean = np.zeros((2000, *SHAPE), "float32")
    for objective in (plain, offset):
        mean_loss(objective, network, clean)
    first, second = (x["noisy_images"].numpy() for x in network.recorder.seen)
    level = network.recorder.seen[0]["noise_level"].numpy()
    sigma = process.schedule.sigmas[1:][level.astype(int)]
    added = (second - first) / sigma.reshape(-1, 1, 1, 1)
    # The same in all pixels, up to float32.
    assert added.std(axis=(1, 2)).max() < 1e-5
    # Five standard errors of a deviation of 2,000 numbers.
    error = 5 * 0.7 / (2 * 2000) ** 0.5
    assert added[:, 0, 0].std() == pytest.approx(0.7, abs=error)


def test_a_self_conditioning_network_is_told_its_estimate_half_of_the_time():
    network = recording_network(previous_estimate=SHAPE)
    mean_loss(Objective(DiffusionProcess()), network, images(2000))
    first, second = network.recorder.seen
    np.testing.assert_array_equal(first["previous_estimate"], 0)
    told = second["previous_estimate"].numpy()
    is_told = np.abs(told).max(axis=(1, 2, 3)) > 0
    assert is_told.mean() == pytest.approx(0.5, abs=5 * 0.5 / 2000**0.5)
    # Of a network that predicts no noise the estimate is x_t / alpha, up to
    # 504 here, of which sampling tells a network no more than [-1, 1].
    level = second["noise_level"].numpy().astype(int)
    alpha = LinearSchedule().alphas[1:][level].reshape(-1, 1, 1, 1)
    expected = np.clip(second["noisy_images"].numpy() / alpha, -1, 1)
    np.testing.assert_allclose(told[is_told], expected[is_told], rtol=1e-5)
    assert 0.1 < (np.abs(told[is_told]) < 1).mean() < 0.9


def test_what_sampling_tells_a_network_is_bounded_as_in_training():
    network = recording_network(previous_estimate=SHAPE)
    calls = NetworkCalls(network, DiffusionProcess()).after(
        tf.constant([[-504.0, -0.5, 0.0, 0.3, np.inf]], tf.float64)
    )
    told = calls.others["previous_estimate"]
    np.testing.assert_array_equal(told, [[-1, -0.5, 0, 0.3, 1]])


def test_the_estimate_that_a_network_is_told_is_not_trained_through():
    # A network of one weight, which counts in the estimate, too.
    inputs = {
        "noisy_images": keras.Input(SHAPE, name="noisy_images"),
        "noise_level": keras.Input((), name="noise_level"),
        "previous_estimate": keras.Input(SHAPE, name="previous_estimate"),
    }
    recorder = Recorder()
    seen = inputs["noisy_images"] + inputs["previous_estimate"]
    scale = keras.layers.Dense(1, use_bias=False)
    network = keras.Model(inputs, scale(seen) + recorder(inputs))
    scale.set_weights([np.array([[0.5]])])
    recorder.seen.clear()
    process = DiffusionProcess(LinearSchedule(2, 0.2, 0.2))
    clean = np.zeros((200, *SHAPE), "float32")
    with tf.GradientTape() as tape:
        loss = mean_loss(Objective(process), network, clean)
    gradient = tape.gradient(loss, scale.trainable_variables)[0]
    told = recorder.seen[-1]
    seen = (told["noisy_images"] + told["previous_estimate"]).numpy()
    # The derivative of mean((w * seen - noise)**2) by w, seen held fixed.
    residual = 0.5 * seen - noise_of_nothing(process, told)
    assert 0.1 < np.abs(told["previous_estimate"]).mean() < 0.9
    expected = 2 * np.mean(residual * seen)
    assert float(gradient[0, 0]) == pytest.approx(expected, rel=1e-4)


def noise_of_nothing(process, told):
    """The noise that a network saw on images of zeros: x_t / sigma."""
    level = told["noise_level"].numpy().astype(int)
    sigma = process.schedule.sigmas[1:][level].reshape(-1, 1, 1, 1)
    return told["noisy_images"].numpy() / sigma


def losses_of_nothing(process, told):
    """The loss of each image, of a network that predicts no noise."""
    return np.square(noise_of_nothing(process, told)).mean(axis=(1, 2, 3))


def filled_history(losses):
    """A history of steps that had the same loss ten times each."""
    history = LossHistory(len(losses))
    t = np.arange(1, len(losses) + 1, dtype="float32") / len(losses)
    for _ in range(10):
        history.record(t, np.float32(losses))
    return history


def test_steps_drawn_by_their_losses_count_inversely_to_how_likely_they_were():
    network = recording_network()
    process = DiffusionProcess(LinearSchedule(4, 0.1, 0.5))
    history = filled_history([1.0, 3.0, 4.0, 2.0])
    clean = np.zeros((500, *SHAPE), "float32")
    loss = mean_loss(Objective(process, loss_history=history), network, clean)
    (told,) = network.recorder.seen
    # Nichol and Dhariwal 2021, Eq. 18, and one in a thousand for all alike.
    probability = 0.999 * np.array([0.1, 0.3, 0.4, 0.2]) + 0.001 / 4
    step = told["noise_level"].numpy().astype(int)
    weight = 1 / (4 * probability[step])
    expected = np.mean(weight * losses_of_nothing(process, told))
    # Float32 sums.
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    # Five standard deviations of a share of 500.
    share = np.bincount(step, minlength=4) / 500
    np.testing.assert_allclose(share, probability, atol=5 * 0.5 / 500**0.5)


def test_an_uncertain_loss_is_divided_by_what_is_expected_and_pays_for_it():
    network = recording_network()
    process = DiffusionProcess(LinearSchedule(4, 0.1, 0.5))
    uncertainty = Uncertainty(channels=16)
    uncertainty.build((None,))
    kernel = np.random.default_rng(0).standard_normal((16, 1))
    uncertainty.linear.set_weights([0.3 * kernel])
    clean = np.zeros((500, *SHAPE), "float32")
    plain, divided = (
        mean_loss(Objective(process, uncertainty=u), network, clean)
        for u in (None, uncertainty)
    )
    told = network.recorder.seen[-1]
    losses = losses_of_nothing(process, told)
    # Float32 sums, here and below.
    assert float(plain) == pytest.approx(losses.mean(), rel=1e-5)
    step = told["noise_level"].numpy().astype(int)
    log_snr = process.schedule.log_snrs[1:][step]
    u = uncertainty(np.float32(log_snr)).numpy()
    assert np.abs(u).min() > 0.01
    # Karras et al. 2024, Eq. 15.
    expected = np.mean(losses / np.exp(u) + u)
    assert float(divided) == pytest.approx(expected, rel=1e-4)


def test_a_network_is_told_how_the_images_it_sees_were_changed(monkeypatch):
    drawn = []
    parameters = Augmentation.parameters

    def recorded(self, uniform, normal):
        drawn.append(parameters(self, uniform, normal))
        return drawn[-1]

    monkeypatch.setattr(Augmentation, "parameters", recorded)
    network = recording_network(augmentation=(9,))
    # So little noise that the network sees the images.
    process = DiffusionProcess(LinearSchedule(2, 1e-8, 1e-8))
    augmentation = Augmentation(0.5)
    x_0 = images(100)
    for training in (True, False):
        mean_loss(
            Objective(process, augmentation=augmentation),
            network,
            x_0,
            training=training,
        )
    assert len(drawn) == 1
    trained, validated = network.recorder.seen
    labels = augmentation.labels(drawn[0]).numpy()
    assert (np.abs(labels).max(axis=0) > 0.1).all()
    np.testing.assert_array_equal(trained["augmentation"], labels)
    np.testing.assert_array_equal(validated["augmentation"], 0)
    changed = augmentation.transform(x_0, drawn[0])
    assert np.abs(changed - x_0).max() > 0.5
    # Six deviations of the noise, 1.4e-4.
    np.testing.assert_allclose(trained["noisy_images"], changed, atol=1e-3)
    np.testing.assert_allclose(validated["noisy_images"], x_0, atol=1e-3)


def test_super_resolution_networks_are_given_block_means():
    network = recording_network(low_resolution_images=(2, 2, 1))
    network.super_resolution_factor = 2
    x_0 = images(50)
    for strength in (0.0, 0.3):
        mean_loss(
            Objective(DiffusionProcess(), low_resolution_noise=strength),
            network,
            x_0,
        )
    clean, noisy = (
        x["low_resolution_images"].numpy() for x in network.recorder.seen
    )
    means = x_0.reshape(50, 2, 2, 2, 2, 1).mean(axis=(2, 4))
    np.testing.assert_allclose(clean, means, atol=1e-6)
    assert 0.05 < (noisy - clean).std() < 0.3


def test_learned_variances_are_trained_if_the_process_weighs_them():
    network = recording_network(channels=2)
    loss = mean_loss(
        Objective(DiffusionProcess(variance_weight=0.001)), network, images(8)
    )
    assert np.isfinite(float(loss))
    with pytest.raises(ValueError, match="2 channels for images of 1"):
        mean_loss(Objective(DiffusionProcess()), network, images(8))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"label_dropout": 1.0}, "label_dropout=1.0"),
        ({"offset_noise": -0.1}, "offset_noise=-0.1"),
        ({"low_resolution_noise": -1}, "low_resolution_noise=-1"),
        ({"offset_noise": float("nan")}, "offset_noise=nan"),
        ({"label_dropout": 0.1}, "null_label='learned'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DiffusionModel(recording_network(), **arguments)
