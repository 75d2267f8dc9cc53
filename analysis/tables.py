"""The tables of a report, as text cells; templates turn them into Markdown and HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ablations.budget import UNEQUAL, Equal
from ablations.expand import Cell
from ablations.study import UNTRAINED, Study
from analysis.compare import Comparison, against_baseline, are_paired
from analysis.conclude import ControlOutcome
from analysis.load import Evidence
from analysis.statistics import Estimate, detectable_difference, mean_interval, samples_to_reach

METRIC_TITLES = {
    "caption_loss": "held-out caption loss",
    "caption_bits": "held-out caption bits",
    "causal_caption_loss": "… with causal attention",
    "name_loss": "… on names",
    "description_loss": "… on descriptive captions",
}


COSTS: Mapping[Equal, tuple[str, str]] = {
    "samples": ("samples", "samples"),
    "flops": ("FLOPs", "train_flops"),
    "seconds": ("training time", "train_seconds"),
}
PAIRING = {
    "seed": "arms with one seed see the same images, order, crops and initial weights",
    "none": "every arm has seeds of its own",
}
EXPECTED_OF_CONTROLS = {"null_control": "no difference", "positive_control": "worse"}


@dataclass(frozen=True)
class Table:
    """Cells of text; a cell with several lines is a list."""

    columns: list[str]
    rows: list[list[str | list[str]]] = field(default_factory=list)


def setup_table(study: Study, cells: list[Cell], evidence: Evidence) -> Table:
    """What was run, where and with what."""
    config = next((cell.config for cell in cells if cell.arm == study.baseline), cells[0].config)
    runs = evidence.runs
    model, budget = config.model, config.budget
    asked = {cell.arm for cell in cells}

    def seen(column: str) -> str:
        values = dict.fromkeys(runs[column]) if column in runs else {}
        return ", ".join(str(value) for value in values if value != "") or "not known"

    def size(part: str) -> str:
        column = f"{part}_parameters"
        return f"{runs[column].iloc[0] / 1e6:.2f} M parameters" if column in runs else "parameters not known"

    stack = "{0.width} wide, {0.depth} deep, {0.num_heads} heads"
    steps = f"{budget.samples:,} samples a run in batches of {budget.batch_size}"
    patches = f"{model.image_px} px images in {model.num_patches} patches"
    pairs = f"{seen('train_pairs')} training pairs, {seen('held_out_pairs')} held out, no concept in both"
    rows: dict[str, str] = {
        "arms": "; ".join(f"{name}: {arm.label}" for name, arm in study.arms.items() if name in asked),
        "design": f"{study.design.kind}; baseline {study.baseline}; equal {study.equal}",
        "pairing": PAIRING[study.pairing],
        "seeds": ", ".join(str(seed) for seed in sorted({cell.seed for cell in cells})),
        "runs": f"{len(runs)} of {len(cells)} finished",
        "scale": f"{config.scale}: {steps}, peak learning rate {config.optimizer.peak_lr:g}",
        "encoder": f"{stack.format(model.encoder)}, {size('encoder')}; {patches}",
        "decoder": f"{stack.format(model.decoder)}, {size('other')}, heads included; {model.vocab_size} tokens",
        "data": f"glyphs ({', '.join(config.data.sources)}): {pairs}",
        "hardware": f"{seen('hardware')}; threads a run: {seen('threads')}; {config.precision}",
        "software": f"torch {seen('torch')}; commit {seen('commit')}",
    }
    return Table(["", ""], [[key, value] for key, value in rows.items()])


def primary_table(
    study: Study, evidence: Evidence, comparisons: Mapping[str, Comparison], controls: Sequence[ControlOutcome]
) -> Table:
    """The comparison that decides: what was expected and found, values, differences, and how fast each arm learns."""
    values = evidence.values(study.primary_metric)
    outcomes: dict[str, str] = {outcome.control: outcome.word for outcome in controls}
    has_failed = "failed" in outcomes.values()
    table = Table(
        [
            "arm",
            "expected",
            "found",
            "mean [95 %]",
            "difference to baseline [95 %]",
            "[95 %, all at once]",
            "would be shown, 4 times in 5",
            "samples to the baseline's final loss",
        ]
    )
    for arm in _arms(study, values):
        if arm == UNTRAINED:
            continue
        difference = against_baseline(study, values, arm) if arm != study.baseline else None
        compared = comparisons.get(arm)
        table.rows.append(
            [
                study.label(arm),
                _expected(study, arm),
                _found(compared, has_failed=has_failed) if compared else outcomes.get(arm, ""),
                _show(mean_interval(values[arm].dropna().to_numpy())),
                "baseline" if arm == study.baseline else _show(difference, signed=True),
                _bounds(compared.difference, signed=True) if compared else "",
                _detectable(compared.difference) if compared else "",
                _reach(study, evidence, arm),
            ]
        )
    return table


def _found(compared: Comparison, *, has_failed: bool) -> str | list[str]:
    """What an arm shows, and whether that was expected; nothing was met or missed when a control failed."""
    met = "undecided: a control failed" if compared.met and has_failed else compared.met
    return [compared.found.word, met] if met and met != compared.found.word else compared.found.word


def _detectable(difference: Estimate | None) -> str:
    if difference is None or not difference.has_interval:
        return ""
    return f"± {detectable_difference(difference):.4f}"


def metrics_table(study: Study, evidence: Evidence) -> Table:
    """Every metric of every arm, with the difference to the baseline."""
    arms = _arms(study, evidence.metrics["arm"].unique())
    table = Table(["metric", *(study.label(arm) for arm in arms)])
    for metric in dict.fromkeys(evidence.metrics["metric"]):
        values = evidence.values(metric)
        cells: list[str | list[str]] = [
            [METRIC_TITLES.get(metric, metric.replace("_", " ")), f"[{evidence.unit(metric)}]"]
        ]
        for arm in arms:
            if arm not in values or values[arm].isna().all():
                cells.append(_absent(evidence, arm, metric))
                continue
            lines = [_show(mean_interval(values[arm].dropna().to_numpy()), digits=3)]
            if arm != study.baseline:
                lines.append("Δ " + _show(against_baseline(study, values, arm), signed=True, digits=3))
            cells.append(lines)
        table.rows.append(cells)
    return table


def _absent(evidence: Evidence, arm: str, metric: str) -> str:
    """Why an arm lacks a metric: its objective has no such number, or nothing measured it yet."""
    table = evidence.not_applicable
    is_known = ((table["arm"] == arm) & (table["metric"] == metric)).any()
    return "not applicable" if is_known else "not measured"


def cost_table(study: Study, evidence: Evidence) -> Table:
    """What each arm took, against the baseline; an arm that had more or less than it of what the study holds equal is
    marked."""
    table = Table(
        [
            "arm",
            "runs",
            "samples a run",
            "training FLOPs a run",
            "minutes a run",
            "of it training",
            "hours in all",
            *(f"{title} against the baseline" for title, _ in COSTS.values()),
        ]
    )
    if "train_flops" not in evidence.runs:
        return table
    means = evidence.runs.groupby("arm")[[column for _, column in COSTS.values()]].mean()
    for arm in _arms(study, evidence.runs["arm"].unique()):
        runs = evidence.runs[evidence.runs["arm"] == arm]
        table.rows.append(
            [
                study.label(arm),
                str(len(runs)),
                f"{runs['samples'].mean():,.0f}",
                f"{runs['train_flops'].mean():.3g}",
                f"{runs['seconds'].mean() / 60:.2f}",
                f"{runs['train_seconds'].mean() / 60:.2f}",
                f"{runs['seconds'].sum() / 3600:.3f}",
                *(
                    _against(means[column].get(arm), means[column].get(study.baseline), is_equal=unit == study.equal)
                    for unit, (_, column) in COSTS.items()
                ),
            ]
        )
    total = evidence.runs
    table.rows.append(
        [
            "all",
            str(len(total)),
            "",
            f"{total['train_flops'].sum():.3g} in all",
            "",
            "",
            f"{total['seconds'].sum() / 3600:.3f}",
            *("" for _ in COSTS),
        ]
    )
    return table


def _against(cost: float | None, baseline: float | None, *, is_equal: bool) -> str:
    """How many times the baseline's, marked where that was to be equal and is not."""
    if not cost or not baseline:
        return ""
    ratio = cost / baseline
    return f"{ratio:.2f} x, unequal" if is_equal and abs(ratio - 1) >= UNEQUAL else f"{ratio:.2f} x"


def missing_table(evidence: Evidence) -> Table:
    """Cells without a result, and why."""
    rows = evidence.missing.astype(str).to_numpy().tolist()
    return Table(["arm", "seed", "run", "reason"], rows)


def _expected(study: Study, arm: str) -> str:
    """How an arm should compare with the baseline, as it was written before the runs."""
    if arm == study.baseline:
        return ""
    return EXPECTED_OF_CONTROLS[arm] if arm in study.controls else study.expected.get(arm, "open")


def _reach(study: Study, evidence: Evidence, arm: str) -> str:
    """Mean samples to the final held-out loss of the baseline with the same seed, or of its mean where arms are not
    paired, over the seeds that get there."""
    column = evidence.curve
    if not column.endswith("_loss"):
        return "no curve of a loss"
    curves = evidence.curves.dropna(subset=[column]).sort_values("samples")
    finals = curves[curves["arm"] == study.baseline].groupby("seed")[column].last()
    if not are_paired(study, arm, study.baseline):
        finals = pd.Series(finals.mean(), index=curves["seed"].unique()) if len(finals) else finals
    found = [
        samples_to_reach(curve, finals[seed], column)
        for seed, curve in curves[curves["arm"] == arm].groupby("seed")
        if seed in finals
    ]
    reached = [samples for samples in found if np.isfinite(samples)]
    if not reached:
        return f"never, in {len(found)} seeds" if found else "no curve"
    return f"{np.mean(reached):,.0f} ({len(reached)} of {len(found)} seeds)"


def _arms(study: Study, present: "pd.DataFrame | np.ndarray") -> list[str]:
    return [arm for arm in [*study.conditions, UNTRAINED] if arm in set(present)]


def _show(estimate: Estimate | None, *, signed: bool = False, digits: int = 4) -> str:
    if estimate is None:
        return "no shared seed"
    mean = f"{estimate.mean:{'+' if signed else ''}.{digits}f}"
    if not estimate.has_interval:
        return f"{mean} (no interval)"
    return f"{mean} {_bounds(estimate, signed=signed, digits=digits)}"


def _bounds(estimate: Estimate | None, *, signed: bool = False, digits: int = 4) -> str:
    if estimate is None or not estimate.has_interval:
        return "no interval"
    form = f"{'+' if signed else ''}.{digits}f"
    return f"[{estimate.low:{form}}, {estimate.high:{form}}]"
