"""Small networks of equal budget: the same images, steps and parameters."""

import dataclasses
import math
from collections.abc import Callable

from keras_unet_diffusion.plain_cnn import PlainCNN
from keras_unet_diffusion.unet import UNet

# Parameters may differ by this share; more is refused.
TOLERANCE = 0.05
# Closer than this, no better width is looked for.
_CLOSE_ENOUGH = 0.01
# And between widths as close as this there is none.
_SAME_WIDTH = 1.002
_MAX_TRIALS = 16


@dataclasses.dataclass(frozen=True)
class Budget:
    """What each network of a study is given.

    Args:
        source: see `open_source`; its split "test" is what losses are of.
        image_size: int, pixels; see `UNet` for this and the next three.
        image_channels: int, 1 or 3.
        base_channels: int, those of the U-Net that others are compared with.
        channel_multipliers: tuple, of that U-Net.
        num_residual_blocks: int, of that U-Net.
        train_steps: int, updates of the weights, a multiple of `num_checks`.
        batch_size: int, images of an update.
        learning_rate: float, of Adam.
        validation_images: int, held-out images that losses are of.
        num_noise_levels: int, times that losses are of.
        num_checks: int, how often the loss is looked at in training.
        size_tolerance: float. A network whose parameters differ by no more
            than this share is left as it is; others are made wider or
            narrower, see `equal_width`.
        seeds: tuple of ints. Each is a training of its own: other initial
            weights, another order of images, other noise.

    Raises:
        ValueError: no seed, or the loss cannot be looked at so often.

    Example:

    ```python
    dataclasses.replace(DIGITS, train_steps=1000)
    ```
    """

    source: str
    image_size: int
    image_channels: int
    base_channels: int
    channel_multipliers: tuple
    num_residual_blocks: int
    train_steps: int
    batch_size: int
    learning_rate: float
    validation_images: int
    num_noise_levels: int = 8
    num_checks: int = 4
    size_tolerance: float = TOLERANCE
    seeds: tuple = (0, 1, 2)

    def __post_init__(self):
        if not self.seeds:
            raise ValueError(
                f"Training needs a seed. Received: seeds={self.seeds}. Give "
                "one or more, such as 0,1,2."
            )
        if self.train_steps % self.num_checks:
            raise ValueError(
                f"The loss is looked at {self.num_checks} times in training, "
                "after as many steps each. Received: train_steps="
                f"{self.train_steps}. Give a multiple of {self.num_checks}."
            )

    @property
    def num_levels(self):
        """Scales of the U-Net."""
        return len(self.channel_multipliers)

    @property
    def plain_layers(self):
        """Convolutions with which a plain CNN sees the whole image."""
        return max(8, self.image_size // 2)


# Minutes on a CPU: in their own 8x8 pixels, so that no frequency is empty.
DIGITS = Budget(
    source="digits",
    image_size=8,
    image_channels=1,
    base_channels=12,
    channel_multipliers=(1, 2, 2),
    num_residual_blocks=1,
    train_steps=240,
    batch_size=32,
    learning_rate=2e-3,
    validation_images=128,
)
# For a GPU; give it source="folder:PATH" with PATH/train and PATH/test.
CIFAR10 = Budget(
    source="tfds:cifar10",
    image_size=32,
    image_channels=3,
    base_channels=32,
    channel_multipliers=(1, 2, 2, 2),
    num_residual_blocks=1,
    train_steps=4_000,
    batch_size=128,
    learning_rate=5e-4,
    validation_images=512,
    # Its many channels can be divided finely.
    size_tolerance=0.01,
)
BUDGETS = {"digits": DIGITS, "cifar10": CIFAR10}


def make_unet(budget, width, **options):
    """Makes a U-Net of a budget.

    Args:
        budget: a `Budget`.
        width: float > 0, by which all channels are multiplied.
        **options: of `UNet`.

    Returns:
        A `UNet` without attention but in the middle, and with two groups in
        each normalisation, so that channels can be any even number.
    """
    # Each level is rounded up or down at widths of its own: channels that grew
    # all at once would leave sizes between which nothing lies.
    num_levels = budget.num_levels
    pairs = [budget.base_channels * x / 2 for x in budget.channel_multipliers]
    channels = [
        2 * max(1, math.floor(x * width + (level + 0.5) / num_levels))
        for level, x in enumerate(pairs)
    ]
    arguments = {
        "image_size": budget.image_size,
        "image_channels": budget.image_channels,
        "base_channels": 1,
        "channel_multipliers": tuple(channels),
        "num_residual_blocks": budget.num_residual_blocks,
        "attention_resolutions": (),
        "num_groups": 2,
        "noise_channels": budget.base_channels,
        "embedding_channels": 4 * budget.base_channels,
    }
    return UNet(**(arguments | options))


def make_plain_cnn(budget, width, **options):
    """Makes a `PlainCNN` likewise; `options` are its own."""
    return PlainCNN(
        budget.image_size,
        budget.image_channels,
        channels=max(4, round(2 * budget.base_channels * width)),
        **options,
    )


@dataclasses.dataclass(frozen=True)
class Variant:
    """One of the networks that a study compares.

    Two of the same network are equal, whatever they are called, so that a
    laboratory trains it once.

    Args:
        name: str, for tables.
        make: `make_unet` or `make_plain_cnn`.
        options: tuple of pairs, of `make`.
        change: function of the network that returns another, see `surgery`;
            None for none.

    Example:

    ```python
    Variant("added", options=(("skip_connections", "add"),)).build(DIGITS)
    ```
    """

    name: str = dataclasses.field(compare=False)
    make: Callable = make_unet
    options: tuple = ()
    change: Callable | None = None

    def build(self, budget, width=1.0):
        """Makes the network, with new weights."""
        network = self.make(budget, width, **dict(self.options))
        return network if self.change is None else self.change(network)


def variant(name, make=make_unet, change=None, **options):
    """A `Variant` by its network's options.

    Args:
        name: str, for tables.
        make: see `Variant`.
        change: see `Variant`.
        **options: of `UNet`, or whatever `make` makes.

    Returns:
        A `Variant`.

    Example:

    ```python
    variant("added", skip_connections="add")
    ```
    """
    return Variant(name, make, tuple(options.items()), change)


BASELINE = variant("U-Net")


def equal_width(variant, budget, target):
    """The width at which a network has as many parameters as another.

    It is 1 if the network is as large as that already, by the tolerance of
    the budget.

    Args:
        variant: a `Variant`.
        budget: a `Budget`.
        target: int, parameters.

    Returns:
        float, for `Variant.build`.

    Raises:
        ValueError: no width comes closer than 5%.
    """
    width, found = 1.0, {}
    tolerance = budget.size_tolerance
    too_narrow, too_wide = None, None
    for _ in range(_MAX_TRIALS):
        found[width] = variant.build(budget, width).count_params()
        if abs(found[width] / target - 1) <= tolerance:
            break
        # Once it has to be changed, as close as may be.
        tolerance = _CLOSE_ENOUGH
        if found[width] < target:
            too_narrow = width
        else:
            too_wide = width
        if too_narrow and too_wide:
            if too_wide / too_narrow < _SAME_WIDTH:
                break
            width = math.sqrt(too_narrow * too_wide)
        else:
            # Most parameters are between the channels of two layers.
            width *= math.sqrt(target / found[width])
    best = min(found, key=lambda width: abs(found[width] - target))
    check_equal({variant.name: found[best]}, target)
    return best


def check_equal(parameters, target):
    """Raises a `ValueError` for networks of unequal size.

    Args:
        parameters: dict of counts by name.
        target: int, what all should have.
    """
    for name, count in parameters.items():
        if abs(count - target) > TOLERANCE * target:
            raise ValueError(
                "A comparison needs networks of equal size. Received: "
                f"{count:,} parameters of {name!r} against {target:,}, which "
                f"is more than {TOLERANCE:.0%} apart. Give more base_channels,"
                " so that they can be divided more finely."
            )
