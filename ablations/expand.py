"""From a study and a base run to its cells: arms that fit the data, their runs, and checks of these."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from pydantic import ValidationError

from aimv2.ablations.expectations import DIGITS, INK, PROBE
from aimv2.ablations.study import UNTRAINED, Study, is_untrained, matched, untrained_of
from aimv2.base.errors import UsageError, unknown
from aimv2.config.arguments import explain
from aimv2.config.program import PROGRAMS, Program, replaced, value_at
from aimv2.config.run_config import RunConfig
from aimv2.definitions.metrics import missing_data, recorded_metrics, set_names
from aimv2.definitions.programs import absent_metrics, check, metrics_of, with_metrics, with_plugins

NULL_SEED = 1000  # offset of the null control's seeds, or its next multiple beyond every seed
OFF_RATIO = 0.05  # relative deviation from the target ratio above which a label shows the actual value


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One arm with one seed, and its run."""

    arm: str
    seed: int
    config: Program

    @cached_property
    def name(self) -> str:
        return self.config.name


def expand(
    study: Study, base: Program, arms: Sequence[str] | None = None, seeds: Iterable[int] | None = None
) -> list[Cell]:
    """Return the cells: every arm and control with every seed, by default those of the study, then each untrained
    encoder with every seed, which arms of one architecture share."""
    names = list(study.arms) if arms is None else list(arms)
    chosen_seeds = list(study.seeds if seeds is None else seeds)
    _check_names(study, names, chosen_seeds)
    base = with_metrics(base, study.deciding_metrics)
    baseline = _changed(study, study.baseline, base)
    changed = {name: _changed(study, name, base) for name in names}
    changed |= {name: _changed(study, name, baseline) for name in study.controls}
    _check_distinct(
        changed, ": the base run is too small to tell their levels apart, or an override sets what one of them changes"
    )
    runs = {
        name: run if name in study.controls else matched(run, baseline, study.equal) for name, run in changed.items()
    }
    _check_distinct(runs, f" once sweep.equal={study.equal} has changed their samples")
    # The offset is beyond every seed, so that the null control shares none with the baseline.
    offset = NULL_SEED * (max(chosen_seeds) // NULL_SEED + 1)
    # Seeds outside, arms inside: paired runs finish together, and a study stopped early has complete pairs.
    trained = [
        Cell(arm=name, seed=seed, config=run.with_seed(seed + offset * (name == "null_control")))
        for seed in chosen_seeds
        for name, run in runs.items()
    ]
    assert len({cell.name for cell in trained}) == len(trained), f"{study.slug}: two cells are one run"
    starts = {UNTRAINED: baseline.untrained()}
    for arm, name in untrained_names(study, runs).items():
        starts.setdefault(name, runs[arm].untrained())
    return trained + [
        Cell(arm=name, seed=seed, config=start.with_seed(seed))
        for seed in chosen_seeds
        for name, start in starts.items()
        if start is not None
    ]


def untrained_names(study: Study, configs: Mapping[str, Program]) -> dict[str, str]:
    """Return, by arm, the name of the cells with its encoder before training: ``UNTRAINED`` if it is the baseline's,
    else that of the cells of ``configs`` that have it, or of the first arm of the study with this encoder."""
    encoders = {name: config.initial() for name, config in configs.items()}
    names = {encoders[study.baseline]: UNTRAINED}
    for name in filter(is_untrained, encoders):
        names.setdefault(encoders[name], name)
    arms = [arm for arm in study.arms if arm in encoders]
    for arm in arms:
        names.setdefault(encoders[arm], untrained_of(arm))
    return {arm: names[encoders[arm]] for arm in arms}


def off_ratios(study: Study, cells: Iterable[Cell]) -> dict[str, str]:
    """Return, by arm, the actual values of those that miss their target ratio to the baseline."""
    configs = {cell.arm: cell.config for cell in cells}
    baseline, own_ratios = configs[study.baseline], study.arms[study.baseline].ratios
    found: dict[str, list[str]] = {}
    for name, arm in study.arms.items():
        for path, ratio in arm.ratios.items():
            if name not in configs or (path == "budget.samples" and study.equal != "samples"):
                continue  # the arm does not run, or matching has changed its samples
            value, other = value_at(configs[name], path), value_at(baseline, path)
            if abs(value / other / (ratio / own_ratios.get(path, 1)) - 1) > OFF_RATIO:
                key = path.rpartition(".")[2]
                text = f"{key} stays {value}" if value == other else f"{key} {value} for {other}, {value / other:.3g} x"
                found.setdefault(name, []).append(text)
    return {name: "; ".join(texts) for name, texts in found.items()}


def with_actual_ratios(study: Study, cells: Iterable[Cell]) -> Study:
    """Return the study with the actual values in the labels of arms that miss their target ratio."""
    actual = off_ratios(study, cells)
    arms = {
        name: replace(arm, label=f"{arm.label} (here {actual[name]})") if name in actual else arm
        for name, arm in study.arms.items()
    }
    return replace(study, design=replace(study.design, arms=arms))


def _check_names(study: Study, names: list[str], seeds: list[int]) -> None:
    for name in names:
        if name not in study.arms:
            raise unknown("arm", name, study.arms)
    for kind, chosen in (("arms", names), ("seeds", seeds), ("controls", list(study.controls))):
        if (not chosen and kind != "controls") or len(set(chosen)) < len(chosen):
            raise UsageError(f"sweep.{kind}={chosen} must name at least one, and each once")
    if study.baseline not in names:
        raise UsageError(
            f"sweep.arms={names} leaves out the baseline {study.baseline!r}, with which arms are compared; add it,"
            " or choose another with sweep.baseline="
        )


def _check_distinct(runs: Mapping[str, Program], why: str) -> None:
    """Refuse two arms that are one run. The null control is the baseline, except for its seeds."""
    first: dict[str, str] = {}
    for name, run in runs.items():
        if name == "null_control":
            continue
        if (other := first.setdefault(run.with_seed(0).name, name)) != name:
            raise UsageError(f"arms {other!r} and {name!r} are the same run{why}")


def _changed(study: Study, name: str, run: Program) -> Program:
    try:
        changed: Program = study.arm(name).change(run)
        return with_plugins(changed)
    except (ValidationError, UsageError) as error:
        cause = explain(error) if isinstance(error, ValidationError) else error
        hint = "; without base= the runs of a study are AIMv2's" if PROGRAMS and study.base is None else ""
        raise UsageError(f"arm {name!r} cannot exist: {cause}{hint}") from error


def adapted(study: Study, base: Program) -> Study:
    """Return the study for the data of its base run, before its arms are expanded.

    On other data than scenes, the probe of the first labelled set of ``evaluation.sets`` takes the place of the probes
    that decide on scenes, or that of the digits if there is none. A UsageError if data cannot answer the question.
    """
    if study.base is not None:
        return study
    assert isinstance(base, RunConfig), f"sweep={study.slug} names no base"
    study = study.fit(study, base)
    stand_ins = _stand_ins(study, base)
    if not stand_ins:
        return study
    primary = stand_ins.get(study.primary_metric, study.primary_metric)
    claims = {name: tuple(one.in_metrics(stand_ins) for one in expected) for name, expected in study.claims.items()}
    return replace(study, primary_metric=primary, claims=claims, stand_ins=stand_ins)


def announcements(study: Study) -> list[str]:
    """Return what a plan and a report say about a study that was adapted to its data, a sentence each."""
    sentences = list(study.notes)
    for metric, other in study.stand_ins.items():
        if other in study.deciding_metrics:  # else the command line chose another one
            better = "; a labelled set of your own would tell more: evaluation.sets=[FILE.yaml]" * (other == DIGITS)
            sentences.append(f"{other} takes the place of {metric}, the study's metric on other data{better}.")
    return sentences


def _stand_ins(study: Study, base: RunConfig) -> Mapping[str, str]:
    """Return the metrics of the study that others replace on these data."""
    if base.data.has_scenes:
        return {}
    sets = set_names(base)
    stand_in = f"probe_{sets[0]}" if sets else DIGITS
    wanted = {PROBE, INK, DIGITS}
    if missing_data(study.primary_metric, base):
        wanted.add(study.primary_metric)
    return {metric: stand_in for metric in study.deciding_metrics if metric in wanted and metric != stand_in}


def check_arms(cells: Sequence[Cell]) -> None:
    """Refuse arms that their objective cannot train."""
    for arm, config in {cell.arm: cell.config for cell in cells}.items():
        try:
            check(config)
        except UsageError as error:
            raise UsageError(f"arm {arm!r} cannot exist: {error}") from error


def check_metrics(study: Study, base: Program) -> None:
    """Refuse a base run that does not report the metrics that the study compares."""
    known = [*metrics_of(base), *recorded_metrics()]
    if study.primary_metric not in known:
        raise unknown("sweep.primary_metric", study.primary_metric, known)
    for claim, expectations in study.claims.items():
        for metric in (name for one in expectations for name in one.metrics):
            if metric not in known:
                raise unknown(f"metric of sweep.claims.{claim}", metric, known)
    if reason := absent_metrics(base).get(study.primary_metric):
        raise UsageError(f"sweep {study.slug!r} compares {study.primary_metric}, which is {reason}")


def check_effect(
    typed: Mapping[str, str],
    run: Program,
    recipe: Program,
    resolved: Callable[[Program], Program],
    cells_of: Callable[[Program], list[Cell]],
) -> None:
    """Refuse overrides that every arm replaces by its own value: they would be lost. Each is left out alone, and all of
    a part together, since another may need it. One that repeats a default of the scale is no mistake. ``run`` has the
    overrides, which ``recipe`` lacks."""
    base, parts = resolved(run), {field.name for field in dataclasses.fields(run)}
    by_part: dict[str, list[str]] = {}
    for key in typed:
        if (part := key.partition(".")[0]) not in parts or key in ("scale", "start.weights"):
            continue
        with contextlib.suppress(ValueError):  # without it the run is impossible, so it has an effect
            if resolved(replaced(run, {key: value_at(recipe, key)})) == base:
                continue
        by_part.setdefault(part, []).append(key)
    cells = cells_of(base)
    for keys in [*([key] for part_keys in by_part.values() for key in part_keys), *by_part.values()]:
        try:
            others = cells_of(resolved(replaced(run, {key: value_at(recipe, key) for key in keys})))
        except ValueError:
            continue  # without them the run or an arm is impossible, so they have an effect
        if others == cells:
            name = keys[0] if len(keys) == 1 else keys[0].partition(".")[0]
            text = " ".join(typed[key] for key in keys)
            raise UsageError(f"{text} has no effect: every arm of the sweep sets its own {name}")
