"""What the tests of sources share: refusals."""

import pytest

from keras_unet_diffusion.data import open_source


def message_of(source, split="train", **options):
    with pytest.raises(ValueError) as refusal:
        open_source(source, split, **options)
    return str(refusal.value)
