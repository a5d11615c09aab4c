"""Transforms of single tensors: permutations, and the right ones."""

import numpy as np
import pytest

from keras_unet_diffusion.weights.tensor_map import (
    CONV,
    DENSE,
    NIN,
    pointwise,
    qkv_bias,
    qkv_kernel,
    qkv_rows,
)


def identity_of(shape):
    """Every number of a tensor different."""
    return np.arange(np.prod(shape), dtype="float32").reshape(shape)


@pytest.mark.parametrize("order", ["legacy", "new", "interleaved"])
def test_the_rows_of_query_key_and_value_are_where_the_order_says(order):
    heads, channels = 3, 2
    rows = qkv_rows(order, heads, heads * channels)
    for part in range(3):
        for head in range(heads):
            for channel in range(channels):
                # Counted by hand in each order.
                expected = {
                    "legacy": head * 3 * channels + part * channels + channel,
                    "new": part * 6 + head * channels + channel,
                    "interleaved": head * channels * 3 + channel * 3 + part,
                }[order]
                assert rows[part, head * channels + channel] == expected


def test_with_one_head_the_legacy_and_the_new_order_are_the_same():
    legacy, new = qkv_rows("legacy", 1, 4), qkv_rows("new", 1, 4)
    np.testing.assert_array_equal(legacy, new)
    assert not np.array_equal(new, qkv_rows("interleaved", 1, 4))


def test_an_unknown_order_is_refused():
    with pytest.raises(ValueError, match="qkv_order='old'.*legacy, new"):
        qkv_rows("old", 1, 4)


@pytest.mark.parametrize(
    ("transform", "shape"),
    [
        (CONV, (5, 4, 3, 2)),
        (DENSE, (5, 4)),
        (NIN, (5, 4)),
        (pointwise(3), (5, 4, 1)),
        (pointwise(4), (5, 4, 1, 1)),
        (qkv_kernel(qkv_rows("interleaved", 2, 4), 3), (12, 4, 1)),
        (qkv_kernel(qkv_rows("legacy", 2, 4), 4), (12, 4, 1, 1)),
        (qkv_bias(qkv_rows("legacy", 2, 4)), (12,)),
    ],
)
def test_a_transform_there_and_back_changes_nothing(transform, shape):
    tensor = identity_of(shape)
    arrays = transform.to_keras(tensor)
    np.testing.assert_array_equal(transform.from_keras(*arrays), tensor)
    numbers = np.sort(np.concatenate([x.ravel() for x in arrays]))
    np.testing.assert_array_equal(numbers, tensor.ravel())


def test_a_convolution_is_read_with_its_axes_in_place():
    tensor = identity_of((5, 4, 3, 2))  # out, in, height, width
    (kernel,) = CONV.to_keras(tensor)
    assert kernel.shape == (3, 2, 4, 5)
    assert kernel[2, 1, 3, 4] == tensor[4, 3, 2, 1]
