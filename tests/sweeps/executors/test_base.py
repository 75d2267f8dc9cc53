from dataclasses import replace

import pytest

from aimv2.base.errors import UsageError
from aimv2.sweeps.executors.base import check_gpu_sharing


def test_only_runs_of_one_rank_on_a_gpu_share_one(tiny):
    on_gpu = replace(tiny, device="cuda")
    check_gpu_sharing(1, [tiny])
    check_gpu_sharing(4, [on_gpu])
    check_gpu_sharing("auto", [on_gpu])
    with pytest.raises(UsageError, match=r"executor.runs_per_gpu=4 needs runs on a GPU, and these are on the CPU"):
        check_gpu_sharing(4, [on_gpu, tiny])
    with pytest.raises(UsageError, match="runs_per_gpu=auto and ranks=2: only runs of one rank share a GPU"):
        check_gpu_sharing("auto", [replace(on_gpu, ranks=2)])
