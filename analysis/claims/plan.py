"""What a check of a claim will run, and what its seeds can show."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from ablations.adapt import adapted
from ablations.budget import Equal
from ablations.catalogue import STUDIES
from ablations.claims import Claim
from ablations.request import DEFAULT_SCALE
from ablations.study import Study
from aimv2.base.errors import UsageError, unknown
from aimv2.config.run_config import RunConfig
from aimv2.config.signature import signature
from aimv2.request.compose import RUN_KEYS, compose, run_config
from aimv2.request.resolve import resolve
from aimv2.runs.provenance import digest
from analysis.evidence.records import FILE, Records, read_records, recorded_names
from analysis.inference.looks import Look, looks_path, num_looks
from analysis.judgement.planner import Planner, planner_of
from analysis.judgement.sensitivity import COMMITTED, read_sensitivity
from analysis.judgement.sensitivity import MAX_SEEDS as MAX_NAMED

MAX_SEEDS = 16
LIMIT = "2h"
OWN_KEYS = {"limit": "", "study": "", "seeds": "", "runs_dir": "runs", "dry_run": "false", "price": ""}


@dataclass(frozen=True)
class CheckPlan:
    """What a check will run, and what it can show.

    Attributes:
        launch: the launcher's arguments.
        checks_dir: where the launcher writes its report, and whose sensitivity counts before the committed one.
        folder: the name of the report in it.
        num_seeds: those of each arm, with those that are recorded.
        recorded: committed records of the same baseline and code, whose seeds are not run again; None if there are
            none.
        new_seeds: those that are run.
        text: printed before the launch.
        blind: why the claim's metrics decide nothing at this scale; empty if they can.
    """

    study: Study
    launch: tuple[str, ...]
    checks_dir: Path
    folder: str
    num_seeds: int
    recorded: Records | None
    new_seeds: tuple[int, ...]
    text: tuple[str, ...]
    blind: str


def plan_check(claim: Claim, own: Mapping[str, str], others: Sequence[str]) -> CheckPlan:
    """Return what to launch: the arms that the claim needs with its controls, and the seeds that show its effects.

    Args:
        own: the values of ``OWN_KEYS``.
        others: arguments that go to the launcher as they are.

    Raises:
        UsageError: the study does not judge the claim, a value is not allowed, or a sensitivity cannot be read.
    """
    slug = own["study"] or claim.studies[0]
    if slug not in claim.studies:
        raise unknown(f"study of {claim.id}", slug, claim.studies)
    base = base_of_study(STUDIES[slug], others)
    study = _adapted(claim, slug, base)
    expectations = study.claims[claim.id]
    needed = {arm for one in expectations for arm in one.arms} | {study.baseline}
    arms = [arm for arm in study.arms if arm in needed]
    baseline = study.arm(study.baseline).change(base)
    checks_dir, folder = Path(own["runs_dir"]) / "checks", _folder(study, base, others)
    recorded, note = _recorded(folder, arms, baseline)
    known = 0 if recorded is None else recorded.look.number
    look = Look(num_looks(looks_path(Path(own["runs_dir"]), folder)) + known + 1)
    sensitivity = read_sensitivity(checks_dir, baseline)
    planner = planner_of(study, claim.id, look.level, sensitivity, baseline.scale)
    num_seeds = _num_seeds(own["seeds"], planner)
    has = set() if recorded is None else _seeds_of_all(recorded, arms)
    new_seeds = tuple(seed for seed in range(num_seeds) if seed not in has)
    is_priced = (own["price"] or str(own["dry_run"] == "false").lower()) == "true"
    launched = (
        f"sweep={study.slug}",
        *([f"sweep.arms=[{','.join(arms)}]"] if len(arms) < len(study.arms) else []),
        f"sweep.seeds=[{','.join(map(str, new_seeds))}]" if has else f"sweep.seeds={num_seeds}",
        *([] if is_priced else ["price=false"]),
        *([f"limit={limit}"] if (limit := own["limit"] or (LIMIT if is_priced else "")) else []),
        f"runs_dir={own['runs_dir']}",
        f"reports_dir={checks_dir}",
        *(["dry_run=true"] if own["dry_run"] == "true" else []),
        *others,
    )
    text = (
        f"{claim.id}: {claim.statement}",
        f"Contradicted if {claim.contradicted_if}.",
        f"It takes {len(arms)} of {len(study.arms)} arms of sweep={study.slug} with {num_seeds} seeds, and controls:",
        *([f"  python sweeps/launch.py {shlex.join(launched)}"] if new_seeds else []),
        *([note] if note else []),
        *(planner.text(one, num_seeds) for one in expectations),
        "Each line takes its comparison by itself, at the level of the next look.",
    )
    where = f"Checks read sensitivity studies in {checks_dir} (reports_dir={checks_dir})"
    blind = f"{planner.blind}. {where}" if planner.blind else ""
    return CheckPlan(study, launched, checks_dir, folder, num_seeds, recorded, new_seeds, text, blind)


def _recorded(folder: str, arms: Sequence[str], baseline: RunConfig) -> tuple[Records | None, str]:
    """Return the committed records whose runs count beside new ones, and which do, or why none does."""
    if folder not in recorded_names(COMMITTED):
        return None, ""
    found = read_records(COMMITTED / folder / FILE, STUDIES)
    base = next((cell.config for cell in found.request.cells if cell.arm == found.request.study.baseline), None)
    if base is None or signature(replace(base, seed=0)) != signature(replace(baseline, seed=0)):
        return None, f"The committed runs of {folder} have another baseline, so they do not count here."
    if set(found.evidence.codes) != {digest()}:
        codes = ", ".join(found.evidence.codes)
        return (
            None,
            f"The committed runs of {folder} are of code {codes}, not {digest()}, so they do not count here.",
        )
    seeds = _seeds_of_all(found, arms)
    if not seeds:
        return None, f"No seed of the committed runs of {folder} has all of these arms, so they do not count here."
    return found, f"Seeds {', '.join(map(str, sorted(seeds)))} are those of the committed runs of {folder}."


def _seeds_of_all(records: Records, arms: Sequence[str]) -> set[int]:
    """Return the seeds with which all of these arms have results."""
    runs = records.evidence.runs
    return set.intersection(*(set(runs.loc[runs["arm"] == arm, "seed"].astype(int)) for arm in arms))


def _adapted(claim: Claim, slug: str, base: RunConfig) -> Study:
    """Return the study that judges the claim, with its arms for these data."""
    study = adapted(STUDIES[slug], base)
    if claim.id not in study.claims:
        raise UsageError(f"sweep={slug} does not judge {claim.id} on these data; leave out data.sources")
    return study


def base_of_study(study: Study, words: Sequence[str] = ()) -> RunConfig:
    """Return the base run of a study with the launcher's arguments."""
    kept = [word for word in words if word.partition("=")[0].partition(".")[0] in (*RUN_KEYS, "mixture")]
    values: Mapping[str, Any] = compose(kept, defaults={"scale": study.scale})
    return resolve(run_config(values))


def _num_seeds(typed: str, planner: Planner) -> int:
    if typed:
        if not typed.isdigit() or int(typed) < 2:
            raise UsageError(f"seeds={typed} must be a whole number of at least 2, without which there is no interval")
        return int(typed)
    wanted, usual = planner.seeds, len(planner.study.seeds)
    # Where even the most seeds that a text names are too few, those of the study do as well as some more.
    return max(int(min(wanted, MAX_SEEDS)), usual) if wanted <= MAX_NAMED else usual


def _folder(study: Study, base: RunConfig, words: Sequence[str]) -> str:
    typed = [word.partition("=")[2] for word in words if word.startswith("sweep.equal=")]
    equal = next((equal for equal in get_args(Equal) if typed and equal == typed[-1]), study.equal)
    parts = [replace(study, equal=equal).folder, *([base.scale] if base.scale != DEFAULT_SCALE else [])]
    return "_".join(parts)
