"""From a study to its runs."""

from dataclasses import dataclass
from functools import cached_property

from aimv2.config.run_config import RunConfig
from aimv2.config.signature import signature


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One place in a study's table, and the run that fills it."""

    arm: str
    seed: int
    config: RunConfig

    @cached_property
    def name(self) -> str:
        """The run's signature."""
        return signature(self.config)
