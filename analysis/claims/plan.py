"""What a check of a claim will run, and what its seeds can show."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.claims import Claim
from aimv2.ablations.expand import Cell, adapted, expand
from aimv2.ablations.ladder import AUTO, COMMITTED, nearest_ladder, unmeasured
from aimv2.ablations.recorded_runs import FILE
from aimv2.ablations.request import DEFAULT_SCALE
from aimv2.ablations.study import Equal, Study
from aimv2.analysis.evidence.records import Records, read_records
from aimv2.analysis.inference.looks import looks_path, next_look
from aimv2.analysis.judgement.planner import MAX_SEEDS as MAX_NAMED
from aimv2.analysis.judgement.planner import USUAL_SEEDS, Planner, planner_of
from aimv2.analysis.judgement.sensitivity import sensitivity_by
from aimv2.base.errors import UsageError, unknown
from aimv2.config.arguments import as_typed
from aimv2.config.program import Program
from aimv2.definitions.programs import absent_metrics
from aimv2.request.compose import RUN_KEYS, compose, run_config
from aimv2.request.resolve import resolve

MAX_SEEDS = 16
LIMIT = "2h"
OWN_KEYS = {
    "limit": "",
    "study": "",
    "seeds": "",
    "runs_dir": "runs",
    "dry_run": "false",
    "price": "",
    "committed": "true",
}


@dataclass(frozen=True)
class CheckPlan:
    """What a check will run, and what it can show."""

    study: Study
    launch: tuple[str, ...]  # the launcher's arguments
    checks_dir: Path  # where it writes its report, and whose sensitivity counts before the committed one
    folder: str  # of the report in it
    num_seeds: int  # of each arm, with the committed ones
    committed: Records | None  # whose seeds count and are not run again
    text: tuple[str, ...]  # printed before the launch
    blind: str  # why the claim's metrics decide nothing at this scale; empty if they can


def plan_check(claim: Claim, own: Mapping[str, str], others: Sequence[str], published: Path = COMMITTED) -> CheckPlan:
    """Return what to launch: the arms that the claim needs with its controls, and the seeds that show its effects.
    ``own`` has the values of ``OWN_KEYS``; ``others`` go to the launcher. A UsageError if a value is not allowed or a
    sensitivity cannot be read."""
    slug = own["study"] or claim.studies[0]
    if slug not in claim.studies:
        raise unknown(f"study of {claim.id}", slug, claim.studies)
    base = base_of_study(STUDIES[slug], others)
    study = adapted(STUDIES[slug], base)  # its arms for these data
    if claim.id not in study.claims:
        raise UsageError(f"sweep={slug} does not judge {claim.id} on these data; leave out data.sources")
    expectations = study.claims[claim.id]
    needed = {arm for expected in expectations for arm in expected.arms} | {study.baseline}
    arms = [arm for arm in study.arms if arm in needed]
    baseline = study.arm(study.baseline).change(base)
    checks_dir, folder = Path(own["runs_dir"]) / "checks", _folder(study, base, others)
    nearest = nearest_ladder(checks_dir, baseline)
    sensitivity = sensitivity_by(nearest, baseline)
    typed = int(own["seeds"]) if own["seeds"].isdigit() else USUAL_SEEDS
    look = next_look(looks_path(Path(own["runs_dir"]), folder), typed)
    planner = planner_of(study, claim.id, look.level, sensitivity)
    num_seeds = _num_seeds(own["seeds"], planner)
    seeds, committed, path = list(range(num_seeds)), None, published / folder / FILE
    if own["committed"] == "true" and path.exists() and not any(word.startswith("sweep.") for word in others):
        records = read_records(path, STUDIES)
        later = planner_of(study, claim.id, records.look.then(typed).level, sensitivity)
        wanted = _num_seeds(own["seeds"], later)
        missing = _missing(records, expand(study, base, arms, range(wanted)))
        if 0 < len(missing) < wanted:
            planner, num_seeds, seeds, committed = later, wanted, missing, records
    is_priced = (own["price"] or str(own["dry_run"] == "false").lower()) == "true"
    limit = own["limit"] or LIMIT * is_priced
    launched = (
        f"sweep={study.slug}",
        *([f"sweep.arms=[{','.join(arms)}]"] if len(arms) < len(study.arms) else []),
        f"sweep.seeds={num_seeds if committed is None else seeds}".replace(" ", ""),
        *([] if is_priced else ["price=false"]),
        *([f"limit={limit}"] if limit else []),
        f"runs_dir={own['runs_dir']}",
        f"reports_dir={checks_dir}",
        *(["dry_run=true"] if own["dry_run"] == "true" else []),
        *others,
    )
    counted = f"{num_seeds - len(seeds)} seeds are committed ({published / folder}); committed=false runs them here."
    text = (
        f"{claim.id}: {claim.statement}",
        f"Contradicted if {claim.contradicted_if}.",
        f"It takes {len(arms)} of {len(study.arms)} arms of sweep={study.slug} with {num_seeds} seeds, and controls:",
        f"  {as_typed('sweep')} {shlex.join(launched)}",
        *([counted] if committed is not None else []),
        *(planner.text(expected, num_seeds) for expected in expectations),
        "Each line takes its comparison by itself, at the level of the next look.",
    )
    why = planner.blind
    alone = replace(study, claims={claim.id: expectations})
    if why and (lacking := unmeasured(alone, baseline, nearest, absent_metrics(baseline))):
        why = "" if AUTO in others else f"{lacking}; {AUTO} measures it beside the study"
    where = f"Checks read sensitivity studies in {checks_dir} (reports_dir={checks_dir})"
    blind = f"{why}. {where}" if why else ""
    return CheckPlan(study, launched, checks_dir, folder, num_seeds, committed, text, blind)


def _missing(records: Records, cells: Sequence[Cell]) -> list[int]:
    """Return the seeds of which the records lack a run. A run counts by its name, whatever code executed it."""
    runs = set(records.evidence.runs["run"])
    return sorted({cell.seed for cell in cells if cell.name not in runs})


def base_of_study(study: Study, words: Sequence[str] = ()) -> Program:
    """Return the base run of a study with the launcher's arguments."""
    kept = [word for word in words if word.partition("=")[0].partition(".")[0] in (*RUN_KEYS, "mixture")]
    values: Mapping[str, Any] = compose(kept, defaults={"scale": study.scale})
    return resolve(run_config(values), needs_data=False)


def _num_seeds(typed: str, planner: Planner) -> int:
    if typed:
        if not typed.isdigit() or int(typed) < 2:
            raise UsageError(f"seeds={typed} must be a whole number of at least 2, without which there is no interval")
        return int(typed)
    wanted, usual = planner.seeds, len(planner.study.seeds)
    # Where even the most seeds that a text names are too few, those of the study do as well as some more.
    return max(int(min(wanted, MAX_SEEDS)), usual) if wanted <= MAX_NAMED else usual


def _folder(study: Study, base: Program, words: Sequence[str]) -> str:
    typed = [word.partition("=")[2] for word in words if word.startswith("sweep.equal=")]
    equal = next((equal for equal in get_args(Equal) if typed and equal == typed[-1]), study.equal)
    parts = [replace(study, equal=equal).folder, *([base.label] if base.label != DEFAULT_SCALE else [])]
    return "_".join(parts)
