"""What we write for guided-diffusion, PyTorch reads."""

import numpy as np
import pytest
from test_weight_fixtures import GUIDED, imported, order_of
from weight_fixtures import fixture

from keras_unet_diffusion.weights import open_checkpoint, save_checkpoint

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("case", GUIDED)
def test_torch_loads_the_state_dict_that_the_project_itself_has(case, tmp_path):
    path = tmp_path / "model.pt"
    save_checkpoint(imported(case), path, "guided_diffusion", order_of(case))
    state = torch.load(path, weights_only=True)
    listed = {name: shape for name, shape, _ in fixture(case).config["tensors"]}
    assert {name: list(x.shape) for name, x in state.items()} == listed
    for name, tensor in fixture(case).tensors.items():
        np.testing.assert_array_equal(state[name].numpy(), tensor)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_what_torch_writes_of_it_in_another_precision_is_read(dtype, tmp_path):
    case = "guided_super_res"
    path = tmp_path / "model.pt"
    tensors = {
        name: torch.tensor(x).to(getattr(torch, dtype))
        for name, x in fixture(case).tensors.items()
    }
    torch.save(tensors, path)
    checkpoint = open_checkpoint(path)
    assert list(checkpoint.shapes) == list(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(
            checkpoint.read(name), tensor.float().numpy()
        )
