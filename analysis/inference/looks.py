"""The looks at a study: each time that its report is written from other runs spends a part of the error rate.

More runs after a look at fewer would otherwise raise the rate of false verdicts with every look, whether they are more
seeds or the rest of an unfinished sweep.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aimv2.ablations.request import FOLDER, LOOKS_SUFFIX
from aimv2.base.errors import UsageError
from aimv2.base.files import read_json, write_json

ALPHA = 0.05


@dataclass(frozen=True)
class Look:
    """One look at a study.

    Attributes:
        number: 1 for the first.
        earlier: the seeds of each earlier look.
    """

    number: int
    earlier: tuple[tuple[int, ...], ...] = ()

    @property
    def level(self) -> float:
        """The level of all that decides. Over any number of looks the errors add up to 5 % (Lan and DeMets 1983)."""
        return 1 - ALPHA / float(2**self.number)


def looks_path(runs_dir: Path, folder: str) -> Path:
    """Return where the looks at a study are recorded, beside its request."""
    return runs_dir / FOLDER / f"{folder}{LOOKS_SUFFIX}"


def num_looks(path: Path) -> int:
    """Return the number of recorded looks, whatever their runs; 0 if there is no record."""
    return len(_read(path)) if path.exists() else 0


def look(path: Path, seeds: Sequence[int], runs: Sequence[str]) -> Look:
    """Record a look at these runs unless it is recorded, and return it.

    Looks at the same set of runs are one. Looks without any of these runs, such as those at another config, do not
    count.

    Args:
        seeds: those with results; without two of them there is no interval, and the look is not recorded.
        runs: the names of all finished runs of the arms that the study compares.

    Raises:
        UsageError: the record cannot be read or written.
    """
    recorded = _read(path) if path.exists() else []
    related = [one for one in recorded if set(one["runs"]) & set(runs)]
    earlier = tuple(tuple(int(seed) for seed in one["seeds"]) for one in related)
    known = [set(one["runs"]) for one in related]
    if set(runs) in known:
        number = known.index(set(runs))
        return Look(number + 1, earlier[:number])
    this = sorted(set(seeds))
    if len(this) > 1:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, [*recorded, {"seeds": this, "runs": sorted(runs)}])
        except OSError as error:
            raise UsageError(f"the record of looks {path} cannot be written: {error.strerror}") from error
    return Look(len(known) + 1, earlier)


def _read(path: Path) -> list[dict[str, list[Any]]]:
    try:
        recorded = read_json(path)
    except UsageError:
        recorded = None
    is_valid = isinstance(recorded, list) and all(
        isinstance(one, dict) and isinstance(one.get("seeds"), list) and isinstance(one.get("runs"), list)
        for one in recorded
    )
    if not is_valid:
        raise UsageError(
            f"{path} is not a record of looks at a study; restore it, because without it the report would claim fewer"
            " looks than there were"
        )
    return list(recorded)
