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
from analysis.evidence.searches import FOLDER, read_search
from sweeps.search.config import NOTE, RUN, SPENT, STATES, WINNERS, journal_path
from sweeps.tasks import Trials

if TYPE_CHECKING:
    import optuna

ARM = "trial"


def trials_of(runs_dir: Path, name: str) -> Trials:
    """Return the trials of the search with this name, which may not exist. Trials in a database are not shown.

    Raises:
        UsageError: the journal cannot be read.
    """
    path = journal_path(runs_dir, name)
    if not path.exists():
        return Trials()
    from sweeps.search.journal import readable  # here, since Optuna takes a second to load

    with readable(str(path)):
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
    return Trials(each, cells, count["failed"])


def pruned_trials(runs_dir: Path, run: str) -> dict[str, float]:
    """Return the trials with this run that their search pruned, and after how many samples.

    Those that diverged count as pruned too, but they have a failed attempt and are left out.

    Returns:
        samples by trial, such as ``trial 3 of loss_weight_search``.

    Raises:
        UsageError: a journal or the outcome of a search cannot be read.
    """
    found: dict[str, float] = {}
    for path in sorted((runs_dir / FOLDER).glob("*.journal")):
        if run.encode() in path.read_bytes():  # Optuna takes a second to load
            found |= _pruned_in(path, run)
    for path in sorted((runs_dir / FOLDER).glob("*.json")):  # of searches with a database, once they are over
        if not path.with_suffix(".journal").exists():
            pruned = (one for one in read_search(path).in_state("pruned") if one.run == run and not one.note)
            found |= {_name(one.number, path): one.samples for one in pruned}
    return found


def _pruned_in(journal: Path, run: str) -> dict[str, float]:
    from sweeps.search.journal import readable

    with readable(str(journal)):
        study = _study(journal, journal.stem)
        trials = [] if study is None else study.get_trials(deepcopy=False)
    return {
        _name(trial.number, journal): trial.user_attrs.get(SPENT, {}).get("samples", 0)
        for trial in trials
        if trial.user_attrs.get(RUN) == run and trial.state.name == "PRUNED" and NOTE not in trial.user_attrs
    }


def _name(number: int, path: Path) -> str:
    return f"trial {number} of {path.stem}"


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

    return open_storage(path, None)


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
