"""The options of ``cost``, and its help, apart from what it imports."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from aimv2.config.arguments import as_typed, usage
from aimv2.config.data_config import CHECKED
from aimv2.run.options import RUN_VALUES


def _listed(value: Any) -> Any:
    """Read numbers with commas too, because ``ranks=2`` of a run is typed like this."""
    return value.split(",") if isinstance(value, str) else value


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class PlanOptions:
    """What a run is planned for."""

    ranks: Annotated[tuple[Annotated[int, Field(gt=0)], ...], BeforeValidator(_listed)] = Field(
        default=(1,), min_length=1, description="numbers of ranks, a column each", examples=["1,8,64"]
    )
    gpu: str | None = Field(
        default=None,
        description="memory of each rank's GPU (MB, GB, GiB); by default that of this machine's device",
        examples=["80GB"],
    )
    rate: float | None = Field(
        default=None,
        gt=0,
        description="TFLOP/s that each rank is assumed to compute, from which the hours follow",
        examples=[400],
    )


def cost_usage(arguments: Sequence[str] = ()) -> str:
    summary = (
        "Print parameters, FLOPs and activation memory of each part of a run, and how it is set up to fit the memory of"
        " its ranks, without training it."
    )
    return usage(f"{as_typed('cost')} [key=value ...]", summary, PlanOptions, RUN_VALUES)
