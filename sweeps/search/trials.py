"""The trials of a search, for displays: as its journal shows them, without the search itself."""

from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.expand import Cell
from ablations.study import WINNER
from aimv2.base.errors import UsageError
from aimv2.base.files import read_json
from aimv2.config.serialization import from_dict
from sweeps.search.config import RUN, STATES, WINNERS, journal_path
from sweeps.tasks import Trials

if TYPE_CHECKING:
    import optuna

ARM = "trial"


def trials_of(runs_dir: Path, name: str) -> Trials:
    """Return the trials of the search with this name, which may not exist.

    Raises:
        UsageError: the journal cannot be read.
    """
    path = journal_path(runs_dir, name)
    if not path.exists():
        return Trials()
    from sweeps.search.journal import readable  # here, since Optuna takes a second to load

    with readable(path):
        if (study := _study(path, name)) is None:
            return Trials()
        trials = study.get_trials(deepcopy=False)
    count = Counter(STATES[trial.state.name] for trial in trials)
    cells = []
    for trial in trials:
        run = trial.user_attrs.get(RUN)
        if run and STATES[trial.state.name] in ("finished", "running"):
            cells += _cells(runs_dir / run, ARM, trial.number)
    for run in study.user_attrs.get(WINNERS, []):
        cells += _cells(runs_dir / run, WINNER)
    each = ", ".join(f"{count[state]} {state}" for state in dict.fromkeys(STATES.values()) if count[state])
    runs = [*(trial.user_attrs[RUN] for trial in trials if RUN in trial.user_attrs), *study.user_attrs.get(WINNERS, [])]
    return Trials(each, cells, count["failed"], frozenset(runs))


def _study(path: Path, name: str) -> "optuna.Study | None":
    """Return the study in a journal; None if it is not there yet."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        return optuna.load_study(study_name=name, storage=_storage(path.absolute(), path.stat().st_ino))
    except KeyError:
        return None


@lru_cache(maxsize=64)  # a journal that is read again is read from where the last reading ended
def _storage(path: Path, inode: int) -> "optuna.storages.BaseStorage":
    from sweeps.search.journal import open_storage

    return open_storage(path)


@lru_cache(maxsize=10_000)
def _cell(path: Path, arm: str, number: int | None) -> Cell:
    config = from_dict(read_json(path))
    return Cell(arm=arm, seed=config.seed if number is None else number, config=config)


def _cells(run: Path, arm: str, number: int | None = None) -> list[Cell]:
    """Return the cell of a run; none if it has not started yet."""
    try:
        return [_cell(run / "config.json", arm, number)]
    except UsageError:
        return []
