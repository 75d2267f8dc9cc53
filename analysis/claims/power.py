"""python analysis/report.py power: the seeds and CPU hours at which two arms show a difference of one margin."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expectations import Relation
from aimv2.ablations.ladder import COMMITTED, FILE, SLUG, read_ladder
from aimv2.ablations.recorded_runs import FILE as RECORDS
from aimv2.analysis.evidence.records import Records, read_records
from aimv2.analysis.inference.intervals import POWER, seeds_for
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.planner import MAX_SEEDS, USUAL_SEEDS
from aimv2.analysis.judgement.rules import aim_of, alone, level_of
from aimv2.analysis.judgement.sensitivity import sensitivity_of
from aimv2.base.errors import UsageError
from aimv2.config.arguments import as_typed, key_values

PAGES = {"first of the page": level_of, "last, or alone": alone}  # the first and the last step of Holm
DECIDING = {
    metric
    for study in STUDIES.values()
    for expectations in study.claims.values()
    for expected in expectations
    for metric in expected.metrics
}
AIMS: Mapping[str, Relation] = {"detect": "better", "rule out": "not better"}


def power(arguments: Sequence[str], committed: Path = COMMITTED) -> int:
    """Print, for each sensitivity study and each metric that decides claims, the seeds and CPU hours of two arms."""
    defaults = {"reports_dir": str(committed)}
    folder = Path((defaults | key_values(arguments, defaults))["reports_dir"])
    paths = [path for path in sorted(folder.glob(f"{SLUG}*/{FILE}")) if (path.parent / RECORDS).exists()]
    if not paths:
        raise UsageError(f"{folder} has no report of a sensitivity study; write one: {as_typed('sweep')} sweep={SLUG}")
    print(
        "Seeds of two arms, and their CPU hours, that detect a difference of one margin, or rule it out if there is"
        f" none,\nwith {100 * POWER:.0f} % power at a first look with {USUAL_SEEDS} seeds: as the claim that the page"
        " decides first,\nand as its last, which has the level of a claim that is checked alone."
    )
    for path in paths:
        heads, *rows = _lines(path, read_records(path.parent / RECORDS, STUDIES))
        print("\n".join([heads, *rows] if rows else []), end="\n" if rows else "")
    return 0


def _lines(path: Path, records: Records) -> Iterator[str]:
    ladder, runs = read_ladder(path), records.evidence.runs
    seconds = runs.loc[runs["arm"] == records.request.study.baseline, "cpu_seconds"].mean()
    heads = "  ".join(f"{f'{page}: {aim}':>27}" for page in PAGES for aim in AIMS)
    yield (
        f"\n{path.parent.name}: scale {ladder.base['scale']}, {seconds:.0f} CPU seconds a run\n"
        f"  {'metric':<20} {'margin':>7} {'spread':>7}  {heads}"
    )
    level = Look(1, USUAL_SEEDS).level
    for metric, seen in sensitivity_of(ladder).items():
        margin = seen.curve.margin
        if metric not in DECIDING or seen.is_blind or seen.noise is None or math.isnan(margin):
            continue
        aims = [aim_of(relation, margin, None, share(level)) for share in PAGES.values() for relation in AIMS.values()]
        prices = "  ".join(f"{_price(seeds_for(seen.noise, aim), seconds):>27}" for aim in aims)
        yield f"  {metric:<20} {margin:>7.4f} {seen.noise.seeds:>7.4f}  {prices}"


def _price(num_seeds: float, seconds: float) -> str:
    if num_seeds > MAX_SEEDS:
        return "no number of seeds" if num_seeds == math.inf else f"more than {MAX_SEEDS}"
    return f"{num_seeds:g} seeds, {2 * num_seeds * seconds / 3600:.1f} h"
