"""The keys of a search, and the names in its files."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass

from aimv2.base.errors import UsageError, unknown
from aimv2.config.arguments import checked
from aimv2.config.data_config import CHECKED
from analysis.evidence.searches import FOLDER

NONE = "none"  # of ``search=``
AUTO, NO_PRUNER = "auto", "none"
MAX_FAILED = 5  # trials of a search, after which no other one is drawn

# Attributes of a study and of its trials in Optuna's storage.
DEFINITION, WINNERS = "definition", "winners"  # the latter are the runs that confirm the winner
RUN, AFTER, SPENT, NOTE = "run", "after", "spent", "note"
STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "running"}


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SearchConfig:
    """A search, as a launch requests it with ``search.<field>``.

    Attributes:
        trials: finished and pruned ones in all; failed ones do not count.
        sampler: draws the points; one of Optuna's by its name (``sweeps.search.optimizers``).
        pruner: ends trials that fall behind; one of Optuna's by its name. ``auto`` is asynchronous successive halving
            (ASHA) if all runs have the same held-out curve, else none.
        seed: of the sampler, and of the runs of all trials. The seeds of the study, which confirm the winner, are
            others.
    """

    trials: Annotated[int, Field(gt=0)] = 24
    sampler: str = "tpe"
    pruner: str = AUTO
    seed: NonNegativeInt = 500


def search_values() -> dict[str, dict[str, Any]]:
    """Return the choices of ``search=`` with their keys and defaults."""
    return {NONE: {}, "optuna": asdict(SearchConfig())}


def search_config(values: Mapping[str, Any]) -> SearchConfig:
    """Return the search with the values of a command line.

    Raises:
        UsageError: a value is not allowed; the message starts with its key.
    """
    from sweeps.search.optimizers import PRUNERS, SAMPLERS  # here, since Optuna takes a second to load

    for key, allowed in {"sampler": [*SAMPLERS], "pruner": [AUTO, *PRUNERS]}.items():
        if values[key] not in allowed:
            raise unknown(f"search.{key}", str(values[key]), allowed)
    try:
        config: SearchConfig = checked("search", SearchConfig, values)
    except UsageError as error:
        raise UsageError(str(error).replace("search: ", "search.", 1)) from error
    return config


def journal_path(runs_dir: Path, name: str) -> Path:
    return runs_dir / FOLDER / f"{name}.journal"
