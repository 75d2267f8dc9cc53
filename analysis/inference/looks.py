"""The looks at a study: each time that its report is written from other runs spends a part of the error rate.

More runs after a look at fewer would otherwise raise the rate of false verdicts with every look, whether they are more
seeds or the rest of an unfinished sweep. The looks at 8, 16 and 32 seeds are planned: the shares of the error rate that
may be spent by then are fixed beforehand, whatever looks there were (Lan and DeMets 1983).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from aimv2.ablations.request import FOLDER, LOOKS_SUFFIX
from aimv2.base.errors import UsageError
from aimv2.base.files import read_json, write_json

ALPHA = 0.05
PLANNED = {2: 0.1, 8: 0.25, 16: 0.5, 32: 0.75}  # the share that is spent by a look at so many seeds or more


@dataclass(frozen=True)
class Look:
    """One look at a study, 1 for the first, the number of its seeds, and the seeds of each earlier look."""

    number: int
    num_seeds: int
    earlier: tuple[tuple[int, ...], ...] = ()

    @property
    def level(self) -> float:
        """The level of all that decides. Over any number of looks the errors add up to at most 5 %.

        A look at no more seeds than an earlier one, by the plan, spends half of what no plan has: of the last quarter.
        """
        spent, rest = 0.0, 1 - max(PLANNED.values())
        for num_seeds in (*map(len, self.earlier), self.num_seeds):
            planned = max((share for seeds, share in PLANNED.items() if seeds <= num_seeds), default=0.0)
            if planned > spent:
                share, spent = planned - spent, planned
            else:
                share = rest = rest / 2
        return 1 - ALPHA * share

    def then(self, num_seeds: int) -> "Look":
        """Return a look at so many seeds after this one."""
        return Look(self.number + 1, num_seeds, (*self.earlier, tuple(range(self.num_seeds))))


@dataclass(frozen=True)
class _Record:
    seeds: list[int]
    runs: list[str]


def looks_path(runs_dir: Path, folder: str) -> Path:
    """Return where the looks at a study are recorded, beside its request."""
    return runs_dir / FOLDER / f"{folder}{LOOKS_SUFFIX}"


def next_look(path: Path, num_seeds: int) -> Look:
    """Return a look at so many seeds after all that are recorded, whatever their runs."""
    recorded = _read(path) if path.exists() else []
    return Look(len(recorded) + 1, num_seeds, tuple(tuple(record.seeds) for record in recorded))


def look(path: Path, seeds: Sequence[int], runs: Sequence[str]) -> Look:
    """Record a look at these finished runs of all compared arms unless it is recorded, and return it. Looks without any
    of these runs, such as those at another config, do not count. Without two seeds with results there is no interval,
    and the look is not recorded."""
    recorded = _read(path) if path.exists() else []
    related = [record for record in recorded if set(record.runs) & set(runs)]
    earlier = tuple(tuple(record.seeds) for record in related)
    known = [set(record.runs) for record in related]
    if set(runs) in known:
        number = known.index(set(runs))
        return Look(number + 1, len(set(seeds)), earlier[:number])
    this = sorted(set(seeds))
    if len(this) > 1:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, [asdict(record) for record in (*recorded, _Record(this, sorted(runs)))])
        except OSError as error:
            raise UsageError(f"the record of looks {path} cannot be written: {error.strerror}") from error
    return Look(len(known) + 1, len(this), earlier)


def _read(path: Path) -> list[_Record]:
    try:
        return TypeAdapter(list[_Record]).validate_python(read_json(path))
    except (UsageError, ValidationError) as error:
        raise UsageError(
            f"{path} is not a record of looks at a study; restore it, because without it the report would claim fewer"
            " looks than there were"
        ) from error
