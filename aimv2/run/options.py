"""The options of ``train``, and its help, apart from what training imports."""

from collections.abc import Sequence

from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.base.typed import as_typed
from aimv2.config.data_config import CHECKED
from aimv2.config.options import usage
from aimv2.request.run_values import RUN_VALUES

MAX_CPU_FLOPS = 86_400 * 10**12  # of training without a limit: a day at 1 TFLOP/s, more than a core computes in a day
SUMMARY = """Train and evaluate one run, and evaluate its untrained encoder for comparison. A run's name is a hash of
its config. If the run is done, its result is printed; if it was interrupted, it resumes from its last checkpoint.
budget.samples=0 evaluates the untrained encoder only. ranks=8 starts 8 processes, unless torchrun has. executor=NAME
has workers elsewhere do the run, such as those of a cluster, with the keys of docs/cluster.md."""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TrainOptions:
    """Where runs are, beside the values of the run."""

    runs_dir: str = Field(default="runs", description="the folder of the runs")
    limit: str | None = Field(
        default=None,
        description="refuse runs that cost more, in time (s, min, h, d), FLOPs (FLOPs to EFLOPs) or disk space (MB to"
        f" TB). Without a limit on time or FLOPs, a CPU trains no run of more than {MAX_CPU_FLOPS:.2g} FLOPs",
        examples=["2h"],
    )


def train_usage(arguments: Sequence[str] = ()) -> str:
    return usage(f"{as_typed('train')} [key=value ...]", SUMMARY, TrainOptions, RUN_VALUES)
