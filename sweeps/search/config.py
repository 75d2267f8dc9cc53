"""The keys of a search, and the names in its files."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass

from aimv2.analysis.evidence.searches import FOLDER
from aimv2.base.errors import UsageError
from aimv2.config.arguments import checked
from aimv2.config.data_config import CHECKED

NONE = "none"  # of ``search=``
AUTO, NO_PRUNER = "auto", "none"
MAX_FAILED = 5  # trials of a search, after which no other one is drawn

DEFINITION, WINNERS = "search.json", "winners.json"  # files; the latter has the runs that confirm the winner


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SearchConfig:
    """A search, as a launch requests it with ``search.<field>``.

    Attributes:
        trials: finished and pruned ones in all; failed ones do not count.
        sampler: draws the points; one of Optuna's by its name (``aimv2.sweeps.search.optimizers``).
        sampler_args: its arguments, where they are not the defaults.
        pruner: ends trials that fall behind; one of Optuna's by its name. ``auto`` is asynchronous successive halving
            (ASHA) if the search has one metric and its objective is measured while it trains, else none.
        pruner_args: its arguments, where they are not the defaults.
        metrics: final metrics to optimise; with several, the search looks for a Pareto front, and the first decides
            about the winner. None is the primary metric of the study.
        seed: of the sampler, and of the runs of all trials. The seeds of the study, which confirm the winner, are
            others.
    """

    trials: Annotated[int, Field(gt=0)] = 24
    sampler: str = "tpe"
    sampler_args: dict[str, Any] = field(default_factory=dict)
    pruner: str = AUTO
    pruner_args: dict[str, Any] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    seed: NonNegativeInt = 500

    def __post_init__(self) -> None:
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError(f"metrics={list(self.metrics)} names a metric twice")


def search_values(words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the choices of ``search=`` with their keys and defaults; the arguments are those of the sampler and the
    pruner that the words of a command line name.

    Raises:
        UsageError: there is no such sampler or pruner.
    """
    values = asdict(SearchConfig())
    typed = {key: value for key, _, value in (word.partition("=") for word in words)}
    if typed.get("search", NONE) != NONE:
        from aimv2.sweeps.search.optimizers import arguments_of  # here, since Optuna takes a second to load

        for key in ("sampler", "pruner"):
            values[f"{key}_args"] = arguments_of(key, typed.get(f"search.{key}", values[key]))
    return {NONE: {}, "optuna": values}


def search_config(values: Mapping[str, Any]) -> SearchConfig:
    """Return the search with the values of a command line.

    Raises:
        UsageError: a value is not allowed; the message starts with its key.
    """
    from aimv2.sweeps.search.optimizers import given

    try:
        config: SearchConfig = checked("search", SearchConfig, given(values))
    except UsageError as error:
        raise UsageError(str(error).replace("search: ", "search.", 1)) from error
    return config


def with_arguments(name: str, arguments: Mapping[str, Any]) -> str:
    """Return a sampler or pruner in words, such as ``tpe`` or ``tpe(n_startup_trials=20)``."""
    return f"{name}({', '.join(f'{key}={value}' for key, value in arguments.items())})" if arguments else name


def folder_of(runs_dir: Path, name: str) -> Path:
    return runs_dir / FOLDER / name
