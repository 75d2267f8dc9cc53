"""The primary metric, which decides, and all other metrics of all arms."""

from collections.abc import Sequence

from aimv2.analysis.document.model import Block, Bullets, Paragraph, Section, Table, stacked
from aimv2.analysis.document.template import blocks_of
from aimv2.analysis.inference.intervals import LEVEL, POWER, Estimate, bonferroni, detectable_difference, percent
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.rules import NULL_LEVEL
from aimv2.analysis.judgement.verdicts import Comparison
from aimv2.analysis.sections.tables import (
    Column,
    arm_table,
    as_heading,
    in_unit,
    metric_title,
    withheld,
)
from aimv2.base.errors import escape

EXPECTED_OF_CONTROLS = {"null_control": "no difference", "positive_control": "worse"}
SAME = "see the same images in the same order, with the same crops, and start from the same weights"


def arms_section(findings: Findings) -> Section | None:
    """Return the table of the primary metric: each arm and control, what was expected and what is observed; None if no
    arm was requested."""
    study, metric = findings.study, findings.metric
    if not findings.comparisons:
        return None
    is_one = len(findings.comparisons) == 1
    hold = "The interval holds" if is_one else "Each interval has its own, higher level, and all hold together"
    about = (
        f"Differences from the baseline, *{study.label(study.baseline)}*, in {metric_title(metric)} (`{metric}`)"
        f"{in_unit(findings)}; {'lower' if study.lower_is_better else 'higher'} is better. {hold} at"
        f" {percent(findings.look.level)} %; those of controls have their own. Differences below"
        f" {study.primary_margin:.2g} are too small to matter"
        " ([how to read the table](#how-to-read-the-table))."
    )
    return Section("Arms", [Paragraph(about), _arms_table(findings)])


def _arms_table(findings: Findings) -> Table:
    study, evidence, metric = findings.study, findings.evidence, findings.metric
    expectations = {study.baseline: "", **EXPECTED_OF_CONTROLS, **study.expected}
    of_controls = {str(control.control): control.result for control in findings.controls if control.metric == metric}

    def observed(arm: str) -> str:
        if arm not in findings.comparisons:
            return of_controls.get(arm, "")
        return _observed(findings.comparisons[arm], why_not)

    def difference(arm: str) -> str:
        if arm == study.baseline:
            return "baseline"
        if hidden := withheld(findings, arm):
            return hidden
        if arm in findings.comparisons:
            return findings.comparisons[arm].difference.text("+.4f")
        level = NULL_LEVEL if arm == "null_control" else LEVEL
        return findings.differences.separately(metric, arm, level, covers_items=True).text("+.4f")

    def detectable(arm: str) -> str:
        if arm not in findings.comparisons or withheld(findings, arm):
            return ""
        compared = findings.comparisons[arm].difference
        return f"{detectable_difference(compared):.4f}" if compared.has_interval else ""

    why_not = "the metric is not sensitive" * bool(findings.reasons.blind)
    if findings.withheld and set(of_controls.values()) != {"passed"}:
        why_not = "a control did not pass"
    columns: dict[str, Column] = {
        "expected": lambda arm: expectations.get(arm, "open"),
        "observed": observed,
        "difference [interval]": difference,
        "mean [95 % interval]": lambda arm: evidence.mean(metric, arm).text(".4f"),
        f"minimum detectable difference ({100 * POWER:.0f} % power)": detectable,
    }
    measured = evidence.values(metric)
    arms = [arm for arm in study.conditions if arm in measured or arm in findings.comparisons]
    return arm_table(findings, "arms", arms, columns, metric)


def primary_section(findings: Findings, figures: Sequence[Block] = ()) -> Section:
    """Return how the primary metric was measured, figures, and how to read its table."""
    study, metric = findings.study, findings.metric
    evaluation = findings.evidence.evaluation(metric)
    better = "lower" if study.lower_is_better else "higher"
    about = f"The primary metric is {metric}{in_unit(findings)}; {better} is better."
    about += f" It is measured on {escape(evaluation)}." * bool(evaluation)
    about += " It was chosen after the runs." * findings.is_later
    about += f" The equivalence margin is {study.primary_margin:.3g}."
    if study.base is None:  # of others the positive control tells
        known = findings.sensitivity
        about += f" Sensitivity: {known[metric].text if metric in known else 'not measured on this base run'}."
    shared = SAME if study.base is None else "share what their program draws by it"
    values = {"look_note": look_note(findings.look), "level": percent(findings.look.level), "shared": shared}
    reading = Section("How to read the table", blocks_of("primary_reading", **values))
    return Section(as_heading(metric_title(metric)), [Paragraph(about), *figures, reading])


def _observed(comparison: Comparison, why_not: str) -> str:
    """Return what is observed, and the expectation judged, or why it is not: only if controls passed and the metric is
    sensitive."""
    if comparison.withheld:
        return stacked("not judged", comparison.withheld)
    if why_not:
        return stacked(comparison.shows, f"not judged: {why_not}")
    if comparison.outcome is None:
        return comparison.shows
    judged = ", ".join(filter(None, (comparison.outcome.word, comparison.outcome.qualification)))
    return stacked(comparison.shows, judged)


def look_note(look: Look) -> str:
    """Say which look at the study this is, and the level of what decides."""
    note = f"This is look {look.number} at the study"
    if look.earlier:
        seeds = "; ".join(", ".join(str(seed) for seed in seeds) for seeds in look.earlier)
        note += f" (earlier: seeds {seeds})"
    level = percent(look.level)
    return f"{note}, so all that decides has the level {level} %. Over any number of looks the errors add up to 5 %."


def section(findings: Findings) -> Section | None:
    """Return what is detected in all metrics, and the table; None without a metric."""
    if findings.evidence.metrics.empty:
        return None
    blocks = [*_doubtful(findings), *_later(findings)]
    if findings.compares:
        blocks += _detected_in_words(findings)
    about = "Means over seeds, from three seeds on with 95 % intervals, which cover seeds only."
    if findings.compares:
        about += " Δ is the difference from the baseline. These intervals are not simultaneous, so some differences"
        about += " exclude 0 by chance."
    about += " The untrained encoder is a strong baseline at small scales." * (
        findings.compares and not findings.study.base
    )
    return Section("All metrics", [*blocks, Section("Table", [Paragraph(about), _table(findings)])])


def _detected_in_words(findings: Findings) -> list[Block]:
    sentences = [escape(_in_words(findings, *difference)) for difference in detected(findings)]
    if sentences:
        chosen = "none of them was" if findings.is_later else "only the primary metric was"
        about = (
            "These differences exclude 0 even with simultaneous 95 % intervals for the whole table. They are"
            f" exploratory: {chosen} chosen before the runs."
        )
        if any(control.result != "passed" for control in findings.controls):
            about += " A control did not pass, so they are not reliable."
        return [Paragraph(about), Bullets(sentences)]
    if findings.reasons.of_code:
        return [Paragraph("Differences from the baseline are not tested, because the runs are of different code.")]
    return [
        Paragraph("With simultaneous 95 % intervals for the whole table, no difference from the baseline excludes 0.")
    ]


def detected(findings: Findings) -> list[tuple[str, str, Estimate]]:
    """Return each other metric, arm or control, and its difference, whose simultaneous 95 % interval excludes 0. Each
    of the metrics, and in it each control, has a share of the error rate."""
    study, reasons, differences = findings.study, findings.reasons, findings.differences
    arms = [arm for arm in study.arms if arm != study.baseline and not reasons.of_arm(arm)]
    controls = [control for control in study.controls if not reasons.of_arm(control)]
    metrics = [name for name in dict.fromkeys(findings.evidence.metrics["metric"]) if name != study.primary_metric]
    level, rows = bonferroni(len(metrics) * (1 + len(study.controls))), []
    for metric in metrics:
        estimates = differences.from_baseline(metric, arms, level)
        estimates |= {control: differences.separately(metric, control, level) for control in controls}
        rows += [(metric, arm, estimate) for arm, estimate in estimates.items() if estimate.excludes_zero]
    return rows


def _in_words(findings: Findings, metric: str, arm: str, estimate: Estimate) -> str:
    low, high = sorted((abs(estimate.low), abs(estimate.high)))
    name = f"{findings.study.label(arm)}{' (control)' * (arm in findings.study.controls)}"
    return (
        f"{metric}: {name} is {'above' if estimate.mean > 0 else 'below'} the baseline by {abs(estimate.mean):.3f}"
        f" {findings.evidence.unit(metric)} (simultaneous {percent(estimate.level, 2)} % interval {low:.3f} to"
        f" {high:.3f}, covers {estimate.covers})."
    )


def _doubtful(findings: Findings) -> list[Block]:
    """Return each warning of a metric, with the number of runs of each arm that have it."""
    metrics, sentences = findings.evidence.metrics, []
    for (metric, warning), rows in metrics[metrics["warning"] != ""].groupby(["metric", "warning"], sort=False):
        counts = rows["arm"].value_counts(sort=False)
        arms = "; ".join(
            f"{findings.study.label(arm)}, {counts[arm]} {'run' if counts[arm] == 1 else 'runs'}"
            for arm in findings.study.cell_names
            if arm in counts
        )
        sentences.append(escape(f"{metric}: {warning} ({arms})."))
    return [Paragraph("These values are doubtful:"), Bullets(sentences)] if sentences else []


def _later(findings: Findings) -> list[Block]:
    """Return how metrics were measured on the finished runs."""
    known = {metric.name: findings.evidence.evaluation(metric.name) for metric in findings.request.metrics}
    each = [f"`{name}`: {escape(how)}." for name, how in known.items() if how]
    return [Paragraph("These metrics were measured after the runs, of their weights:"), Bullets(each)] if each else []


def _table(findings: Findings) -> Table:
    """Return every metric of every arm, with the difference from the baseline; not applicable if the arm's objective
    does not have it."""
    study, evidence = findings.study, findings.evidence
    arms, absent = findings.present(list(evidence.metrics["arm"].unique())), evidence.not_applicable
    not_applicable = set(zip(absent["metric"], absent["arm"], strict=True))
    table = Table(["metric", *(study.label(arm) for arm in arms)], name="metrics")
    for metric in dict.fromkeys(evidence.metrics["metric"]):
        cells = [stacked(escape(metric_title(metric)), f"[{escape(evidence.unit(metric))}]")]
        for arm in arms:
            if arm not in evidence.values(metric):
                cells.append("not applicable" if (metric, arm) in not_applicable else "not measured")
                continue
            lines = []
            if arm != study.baseline:
                lines.append(f"Δ {withheld(findings, arm) or findings.differences.separately(metric, arm).text()}")
            cells.append(stacked(evidence.mean(metric, arm).text(".3f"), *lines))
        table.rows.append(cells)
    return table
