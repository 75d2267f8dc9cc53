"""What a cost study measures, with the smallest encoders."""

import pytest
import torch

from aimv2.base.errors import UsageError
from aimv2.config.recipes.scales import demo
from analysis.costs.measuring.study import Options, measure
from analysis.costs.measuring.training import Scale
from benchmarks.timing import read_options

QUICK = ["depth=1", "patches=16", "rounds=2", "batch_rounds=2", "batch=2", "threads=1", "device=cpu", "train_batch=1"]
SCALES = [Scale("demo", "small", demo(), 2)]


def run(arguments):
    return measure(read_options(Options, arguments), arguments, SCALES, lambda text: None)


def test_measurement_says_what_was_measured_where():
    typed = [*QUICK, "models=aimv2,clip", "precisions=bfloat16", "clock=cpu"]
    found = run([*typed, "reports_dir=elsewhere"])
    assert found.command == " ".join(["python analysis/cost_study.py", *typed])
    assert (found.clock, found.depth, found.machine.threads) == ("cpu", 1, 1)
    assert found.machine.packages["torch"] == torch.__version__
    assert set(found.machine.packages) == {"torch", "open_clip_torch"}
    assert [(one.patches, one.precision, one.batch_size) for one in found.encoders] == [
        (16, "bfloat16", 1),
        (16, "bfloat16", 2),
    ]
    assert {one.encoder for setting in found.encoders for one in setting.encoders} == {"aimv2", "clip"}
    assert [one.scale for one in found.training] == ["demo"]
    assert torch.get_num_threads() == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_cuda_device_is_refused():
    with pytest.raises(UsageError, match="finds no CUDA device"):
        run(["device=cuda"])
