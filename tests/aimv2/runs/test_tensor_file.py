import torch
from safetensors.torch import load_file

from aimv2.runs.tensor_file import save_tensors


def test_save_tensors_gives_the_file_the_permissions_of_any_other(tmp_path, assert_shared):
    save_tensors({"a": torch.arange(3)}, tmp_path / "a.safetensors")
    assert_shared(tmp_path)
    assert load_file(tmp_path / "a.safetensors")["a"].tolist() == [0, 1, 2]
