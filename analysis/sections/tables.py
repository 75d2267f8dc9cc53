"""The tables of a report, as cells of Markdown."""

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ablations.budget import UNEQUAL, Equal
from ablations.claims import CLAIMS
from ablations.expand import Cell
from ablations.expectations import default_margin, margin_reason
from ablations.study import UNTRAINED, Study
from aimv2.config.data_config import is_described, source_name
from analysis.document.model import Table, escape
from analysis.inference.intervals import POWER, detectable_difference, mean_interval
from analysis.inference.reach import Reach, reach, samples_to_reach
from analysis.judgement.compare import Comparison, Differences, are_paired, mixed_code, reasons_to_withhold
from analysis.judgement.controls import ControlOutcome
from analysis.judgement.verdicts import Verdict
from analysis.load import Evidence

METRIC_TITLES = {
    "content_loss": "held-out loss of content words",
    "causal_content_loss": "loss of content words with causal attention",
    "caption_loss": "held-out caption loss",
    "caption_bits": "held-out caption bits",
    "short_loss": "loss of short captions",
    "dense_loss": "loss of dense captions",
}

COSTS: Mapping[Equal, tuple[str, str]] = {
    "samples": ("samples", "samples"),
    "flops": ("FLOPs", "train_flops"),
    "seconds": ("training time", "train_cpu_seconds"),  # the wall time of one run also measures the load of the machine
}
COST_COLUMNS: Mapping[str, Callable[[pd.DataFrame], str]] = {
    "runs": lambda runs: str(len(runs)),
    "samples per run": lambda runs: f"{runs['samples'].mean():,.0f}",
    "training FLOPs per run": lambda runs: f"{runs['train_flops'].mean():.3g}",
    "minutes per run": lambda runs: f"{runs['seconds'].mean() / 60:.2f}",
    "of which training": lambda runs: f"{runs['train_seconds'].mean() / 60:.2f}",
    "CPU minutes of training steps": lambda runs: _minutes(runs["train_cpu_seconds"]),
    "FLOPs of all runs": lambda runs: f"{runs['train_flops'].sum():.3g}",
    "hours of all runs": lambda runs: f"{runs['seconds'].sum() / 3600:.3f}",
}
EXPECTED_OF_CONTROLS = {"null_control": "no difference", "positive_control": "worse"}


def metric_title(metric: str) -> str:
    """Return a metric's name in prose."""
    return METRIC_TITLES.get(metric, metric.replace("_", " ").replace("knn", "kNN"))


def setup_table(study: Study, cells: list[Cell], evidence: Evidence) -> Table:
    """Return arms, scale, data, hardware and software of the runs."""
    config = next(cell.config for cell in cells if cell.arm == study.baseline)
    runs = evidence.runs
    model, budget = config.model, config.budget
    requested = {cell.arm for cell in cells}

    def seen(column: str) -> str:
        values = dict.fromkeys(runs[column]) if column in runs else {}
        shown = (f"{value:,}" if isinstance(value, int) else str(value) for value in values if value != "")
        return ", ".join(shown) or "unknown"

    def size(part: str) -> str:
        column = f"{part}_parameters"
        return f"{runs[column].iloc[0] / 1e6:.2f} M parameters" if column in runs else "parameters unknown"

    stack = "{0.width} wide, {0.depth} deep, {0.num_heads} heads"
    steps = f"{budget.samples:,} samples per run in batches of {budget.batch_size}"
    patches = f"{model.image_px} px images in I = {model.num_patches} patches"
    pairs = f"{seen('train_pairs')} training pairs, {seen('held_out_pairs')} held-out pairs"
    if config.data.has_scenes:
        pairs += f" of other compositions; {config.data.scenes.num_objects} objects of each source"
    share: float | None = config.data.dense_fraction
    if config.data.kind == "files" or config.data.dense_fractions is not None:  # sources differ in their share
        share = evidence.dense_share(study.baseline)
    if share is not None:
        pairs += f"; {100 * share:.0f} % of the samples show the dense caption"
    rows = {
        "arms": "; ".join(f"{name}: {arm.label}" for name, arm in study.arms.items() if name in requested),
        "design": f"{study.design.kind}; baseline {study.baseline}; equal {study.equal}",
        "seeds": ", ".join(str(seed) for seed in sorted({cell.seed for cell in cells})),
        "runs": f"{len(runs)} of {len(cells)} finished",
        "scale": f"{config.scale}: {steps}, peak learning rate {config.optimizer.peak_lr:g}",
        "encoder": f"{stack.format(model.encoder)}, {size('encoder')}; {patches}",
        "decoder": f"{stack.format(model.decoder)}, {size('other')}, heads included; {model.vocab_size} tokens",
        "data": f"{', '.join(map(_name, config.data.sources))}: {pairs}",
        "hardware": f"{seen('hardware')}; threads per run: {seen('threads')}; {config.precision}",
        "software": f"torch {seen('torch')}; commit {seen('commit')}; code {seen('code')}",
    }
    return Table(["", ""], [list(row) for row in rows.items()])


def primary_table(
    study: Study,
    evidence: Evidence,
    comparisons: Mapping[str, Comparison],
    controls: Sequence[ControlOutcome],
    *,
    is_sensitive: bool,
) -> Table:
    """Return expectation, observation, mean, difference and learning speed of each arm in the primary metric.

    No expectation is judged unless the controls passed and the metric is sensitive.
    """
    metric, differences = study.primary_metric, Differences(study, evidence)
    values = evidence.values(metric)
    of_controls = {one.control: one.result for one in controls if one.metric == metric}
    have_passed = set(of_controls.values()) == {"passed"}
    why_not = "a control did not pass" if not have_passed else "" if is_sensitive else "the metric is not sensitive"
    observed: dict[str, str | list[str]] = {str(control): result for control, result in of_controls.items()}
    observed |= {arm: _observed(one, why_not) for arm, one in comparisons.items()}
    expected = {study.baseline: "", **EXPECTED_OF_CONTROLS, **study.expected}
    table = Table(
        [
            "arm",
            "expected",
            "observed",
            "mean [95 % interval]",
            "difference from baseline [95 % interval]",
            "simultaneous interval",
            f"minimum detectable difference ({100 * POWER:.0f} % power)",
            "samples to reach the baseline's final loss",
        ]
    )
    for arm in study.conditions:
        if arm not in values:
            continue
        compared = comparisons.get(arm)
        withheld = _withheld(study, evidence, arm)
        alone = differences.separately(metric, arm, covers_items=True)
        difference = withheld or alone.text("+.4f")
        table.rows.append(
            [
                study.label(arm),
                expected.get(arm, "open"),
                observed.get(arm, ""),
                mean_interval(values[arm]).text(".4f"),
                "baseline" if arm == study.baseline else difference,
                _interval(compared) if compared and not withheld else "",
                f"{detectable_difference(compared.difference):.4f}" if compared and not withheld else "",
                _reach_in_words(study, evidence, arm),
            ]
        )
    return table


def _withheld(study: Study, evidence: Evidence, arm: str) -> str:
    """Return why no difference of an arm from the baseline is shown, in a few words; empty if it is."""
    if not reasons_to_withhold(study, evidence, [arm, study.baseline]):
        return ""
    return f"withheld: {'different code' if mixed_code(study, evidence) else 'a run failed'}"


def _observed(comparison: Comparison, why_not: str) -> str | list[str]:
    """Return what is observed, and the expectation judged, or why it is not."""
    if comparison.withheld:
        return ["not judged", comparison.withheld]
    if comparison.outcome is None:
        return comparison.observed.text
    if why_not:
        return [comparison.observed.text, f"not judged: {why_not}"]
    judged = ", ".join(filter(None, (comparison.outcome.word, comparison.outcome.qualification)))
    return [comparison.observed.text, judged]


def _interval(comparison: Comparison) -> str | list[str]:
    """Return the simultaneous interval, and what it rests on."""
    estimate = comparison.difference
    return [estimate.bounds("+.4f"), estimate.basis] if estimate.has_interval else estimate.bounds()


def metrics_table(study: Study, evidence: Evidence) -> Table:
    """Return every metric of every arm, with the difference from the baseline.

    A metric is not applicable if the arm's objective does not have it.
    """
    differences = Differences(study, evidence)
    arms, absent = _arms(study, evidence.metrics["arm"].unique()), evidence.not_applicable
    not_applicable = set(zip(absent["metric"], absent["arm"], strict=True))
    table = Table(["metric", *(study.label(arm) for arm in arms)])
    for metric in dict.fromkeys(evidence.metrics["metric"]):
        values = evidence.values(metric)
        cells: list[str | list[str]] = [[metric_title(metric), f"[{evidence.unit(metric)}]"]]
        for arm in arms:
            if arm not in values:
                cells.append("not applicable" if (metric, arm) in not_applicable else "not measured")
                continue
            lines = [mean_interval(values[arm]).text(".3f")]
            if arm != study.baseline:
                withheld = _withheld(study, evidence, arm)
                lines.append(f"Δ {withheld or differences.separately(metric, arm).text()}")
            cells.append(lines)
        table.rows.append(cells)
    return table


def cost_table(study: Study, evidence: Evidence) -> Table:
    """Return the cost of each arm and of all, marked where the study holds it equal to the baseline and it is not."""
    table = Table(["arm", *COST_COLUMNS, *(f"{title} relative to baseline" for title, _ in COSTS.values())])
    runs, costs = evidence.runs, dict(COSTS)
    if runs.empty:
        return table
    if runs["train_cpu_seconds"].isna().any():  # trained on a device: its wall time is the best there is
        costs = costs | {"seconds": ("training time", "train_seconds")}
    baseline = runs[runs["arm"] == study.baseline]
    for arm in _arms(study, runs["arm"].unique()):
        own = runs[runs["arm"] == arm]
        relative = [
            _relative(own[column].mean(), baseline[column].mean(), is_equal=unit == study.equal)
            for unit, (_, column) in costs.items()
        ]
        table.rows.append([study.label(arm), *(cost(own) for cost in COST_COLUMNS.values()), *relative])
    table.rows.append(["all", *(cost(runs) for cost in COST_COLUMNS.values()), *("" for _ in COSTS)])
    return table


def _name(source: str) -> str:
    return escape(source_name(source)) if is_described(source) else source


def _minutes(seconds: pd.Series) -> str:
    return "not measured" if seconds.isna().any() else f"{seconds.mean() / 60:.2f}"


def _relative(cost: float, baseline: float, *, is_equal: bool) -> str:
    """Return the ratio to the baseline's cost, marked if it should be 1 and is not."""
    if not cost > 0 or not baseline > 0:  # the untrained encoder, no baseline, or not measured
        return ""
    ratio = cost / baseline
    return f"{ratio:.2f} x (unequal)" if is_equal and abs(ratio - 1) >= UNEQUAL else f"{ratio:.2f} x"


def verdicts_table(verdicts: Mapping[str, Verdict]) -> Table:
    """Return the paper's claims and the study's verdicts."""
    table = Table(["claim", "source", "verdict at this scale", "evidence"])
    for name, verdict in verdicts.items():
        claim = CLAIMS[name]
        lines = [f"{name}: {claim.statement}", f"Contradicted if {claim.contradicted_if}."]
        word = [f"**{verdict.word}**", *verdict.qualifications]
        table.rows.append([lines, claim.source, word, [*verdict.evidence, *verdict.sensitivity]])
    return table


def margins_note(study: Study) -> str:
    """Return the equivalence margin of each metric that claims compare, and its reason; empty without claims."""
    reasons: dict[str, None] = {}
    for one in (one for expectations in study.claims.values() for one in expectations):
        margin = study.margin_of(one)
        if margin != study.margin(one.metric):
            reason = one.why
        elif margin != default_margin(one.metric):
            reason = "set for this study"
        else:
            reason = margin_reason(one.metric)
        reasons[f"{one.metric} {margin:g} ({reason})"] = None
    return "; ".join(reasons)


def missing_table(evidence: Evidence) -> Table:
    """Return the cells without a result, and the reason."""
    columns = ["arm", "seed", "run", "reason"]
    rows = evidence.missing[columns].astype(str).to_numpy().tolist()
    return Table(columns, [[escape(cell) for cell in row] for row in rows])


def examples_table(study: Study, evidence: Evidence, folder: Path) -> Table:
    """Write the example images; return them with the reference caption and every arm's caption."""
    arms = [arm for arm in study.arms if arm in evidence.examples]
    table = Table(["image", "reference", *(study.label(arm) for arm in arms)])
    for number, examples in enumerate(zip(*(evidence.examples[arm] for arm in arms), strict=True), 1):
        name = f"example_{number:02d}.png"
        (folder / name).write_bytes(base64.b64decode(examples[0]["png"]))
        texts = [examples[0]["reference"], *(example["written"] for example in examples)]
        table.rows.append([f"![]({folder.name}/{name})", *map(escape, texts)])
    return table


def _reach_in_words(study: Study, evidence: Evidence, arm: str) -> str:
    """Return the mean samples to the baseline's final loss, over all seeds, and the number of seeds that reach it."""
    if not evidence.curve.endswith("_loss"):
        return "no loss curve"
    if notes := reasons_to_withhold(study, evidence, [arm, study.baseline]):
        return f"not judged: {'; '.join(notes)}"
    found = _reach(study, evidence, arm)
    if not found.n:
        return "no curve"
    sign = ">" if found.num_reached == 0 else "≥ " if found.num_reached < found.n else ""
    return f"{sign}{found.mean:,.0f} ({found.num_reached} of {found.n} seeds reach it)"


def _reach(study: Study, evidence: Evidence, arm: str) -> Reach:
    """Return how fast an arm reaches the baseline's final loss with the same seed.

    An unpaired arm is compared with the mean of the baseline's final losses.
    """
    column = evidence.curve
    curves = evidence.curves.dropna(subset=[column]).sort_values("samples").set_index("samples")
    finals = curves[curves["arm"] == study.baseline].groupby("seed")[column].last()
    if not are_paired(arm, study.baseline):
        finals = pd.Series(finals.mean(), index=curves["seed"].unique()).dropna()
    own = {seed: curve for seed, curve in curves[curves["arm"] == arm].groupby("seed")[column] if seed in finals}
    samples = [samples_to_reach(curve, finals[seed]) for seed, curve in own.items()]
    return reach(samples, [float(curve.index.max()) for curve in own.values()])


def _arms(study: Study, present: "pd.DataFrame | np.ndarray") -> list[str]:
    return [arm for arm in [*study.conditions, UNTRAINED] if arm in set(present)]
