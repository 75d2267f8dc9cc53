"""The benchmark of loading refuses loaders that load something else."""

import pytest
import torch

from aimv2.base.errors import RunFailedError
from benchmarks.data import Bench, DataOptions
from benchmarks.synthetic import SCENES


def test_loader_that_skips_or_spoils_images_is_refused(tmp_path):
    bench = Bench(tmp_path, SCENES, DataOptions(batches=1, batch_size=4))
    batch = torch.zeros(4, 3, 32, 32)
    assert bench.num_images == 32
    bench.load_all("it", lambda: iter([batch] * 8))
    with pytest.raises(RunFailedError, match="it loads 28 of 32 images"):
        bench.load_all("it", lambda: iter([batch] * 7))
    with pytest.raises(RunFailedError, match=r"it loads images of shape \(4, 3, 16, 32\) as torch.float32"):
        bench.load_all("it", lambda: iter([batch[:, :, ::2]] * 16))
