"""The help of ``train`` and of commands with the values of a run, apart from what training imports."""

from collections.abc import Sequence

from pydantic import Field
from pydantic.dataclasses import dataclass

from aimv2.config.arguments import as_typed, usage
from aimv2.config.data_config import CHECKED

# Written out, because helps load faster without the configs (tests/aimv2/run/test_options.py).
SCALES = "demo, laptop, laptop_mix, tiny, small, vit_b, vit_l, vit_l_2b, vit_h, vit_1b, vit_3b"
OBJECTIVES = "aimv2, caption, image_only, cappa, clip, siglip"
RECIPES = "high_res, native, lit"

RUN_VALUES = f"""  scale=demo                   the scale to start from ({SCALES})
  objective.name=aimv2         the training objective ({OBJECTIVES})
  mixture=paper|public         weights and shares of dense captions of the paper's three sources
  start.weights=PATH           start from a finished run, with its config, or from a folder of: weights import
  recipe=NAME                  post-training that starts there ({RECIPES})
  config=FILE.yaml             keys with values from a file; those that are typed count
  budget.samples=4096          any other value, by its path in aimv2/config/run_config.py
  plugins=[FILE.py,FOLDER]     code of your own, such as a prefix-length distribution (docs/extend.md)
""".rstrip()

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
