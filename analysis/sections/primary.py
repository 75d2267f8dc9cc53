"""The primary metric: expectations, observations, and what decides them."""

from collections.abc import Sequence

from aimv2.analysis.document.model import Block, Paragraph, Section, Table, stacked
from aimv2.analysis.document.template import blocks_of
from aimv2.analysis.inference.intervals import POWER, detectable_difference, percent
from aimv2.analysis.judgement.classes import words
from aimv2.analysis.judgement.compare import Comparison
from aimv2.analysis.judgement.conclusions import look_note, power
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.guards import arm_notes
from aimv2.analysis.sections.words import in_unit, metric_title, with_limits, withheld
from aimv2.base.markdown import escape

EXPECTED_OF_CONTROLS = {"null_control": "no difference", "positive_control": "worse"}
SAME = "see the same images in the same order, with the same crops, and start from the same weights"
PAIRING = f"Arms with the same seed {SAME}."


def section(findings: Findings, figures: Sequence[Block] = ()) -> Section:
    """Return the table of the primary metric, and how to read it.

    Args:
        figures: shown below the table.
    """
    blocks: list[Block] = [_table(findings), *_of_classes(findings)]
    if note := power(findings.study, findings.comparisons, escape(findings.unit), findings.withheld):
        blocks.append(Paragraph(note))
    pairing = (
        PAIRING if findings.study.base is None else "Arms with the same seed share what their program draws by it."
    )
    values = {"look_note": look_note(findings.look), "level": percent(findings.look.level), "pairing": pairing}
    reading = Section("How to read the table", blocks_of("primary_reading", **values))
    title = metric_title(findings.metric)
    return Section(title[0].upper() + title[1:], [_metric(findings), *blocks, *figures, reading])


def _metric(findings: Findings) -> Paragraph:
    study, evaluation = findings.study, findings.evidence.evaluation(findings.metric)
    better = "lower" if study.lower_is_better else "higher"
    measured = f" It is measured on {escape(evaluation)}." if evaluation else ""
    measured += " It was chosen after the runs." * findings.is_later
    metric, known = findings.metric, findings.sensitivity
    seen = known[metric].text if metric in known else "not measured on this base run"
    sensitivity = f" Sensitivity: {seen}." if study.base is None else ""  # of others the positive control tells
    return Paragraph(
        f"The primary metric is {metric}{in_unit(findings)}; {better} is better.{measured} The equivalence margin is"
        f" {study.primary_margin:.3g}.{sensitivity}"
    )


def _table(findings: Findings) -> Table:
    study, evidence, metric = findings.study, findings.evidence, findings.metric
    values = evidence.values(metric)
    observed = _observations(findings)
    expected = {study.baseline: "", **EXPECTED_OF_CONTROLS, **study.expected}
    columns = ["arm", "expected", "observed", "mean [95 % interval]", "difference from baseline [95 % interval]"]
    columns += ["simultaneous interval", f"minimum detectable difference ({100 * POWER:.0f} % power)"]
    table, limits = Table(columns, name="primary"), []
    for arm in study.conditions:
        if arm not in values:
            continue
        compared, hidden = findings.comparisons.get(arm), withheld(findings, arm)
        alone, mean = findings.differences.separately(metric, arm, covers_items=True), evidence.mean(metric, arm)
        difference: str = "baseline"
        if arm != study.baseline:
            told = compared.parts.text if compared and compared.parts and not hidden else ""
            lines = (hidden or alone.text("+.4f"), *filter(None, [told]))
            difference = stacked(*lines)
        table.rows.append(
            [
                study.label(arm),
                expected.get(arm, "open"),
                observed.get(arm, ""),
                mean.text(".4f"),
                difference,
                _interval(compared) if compared and not hidden else "",
                f"{detectable_difference(compared.difference):.4f}" if compared and not hidden else "",
            ]
        )
        limits.append(arm_notes(findings, arm, metric))
    return with_limits(table, limits)


def _of_classes(findings: Findings) -> list[Block]:
    """Return the table of what classes of words contribute to the differences; none if the metric has no classes."""
    known = {arm: one.parts for arm, one in findings.comparisons.items() if one.parts and not one.withheld}
    if not known:
        return []
    shares = next(iter(known.values())).shares
    columns = [f"{name} words ({100 * share:.1f} % of the tokens)" for name, share in shares.items()]
    rows: list[list[str]] = []
    for arm, one in known.items():
        contributed = [each.text("+.4f") for each in one.contributions.values()]
        rest: str = ""
        if one.rest.n:
            rest = f"{one.rest.text('+.4f')} without {words(one.most)}"
        rows.append([findings.study.label(arm), f"{one.whole.mean:+z.4f}", *contributed, rest])
    caption = (
        "Differences from the baseline by class of word: a class contributes its share of the tokens times its own"
        f" difference, so a row adds up. Intervals hold together at {percent(findings.look.level)} % and cover"
        " seeds. The last column is the difference over the other tokens, without the words that make up most of it."
    )
    headings = ["arm", "difference", *columns, "difference of the rest"]
    return [Table(headings, rows, name="classes", caption=caption)]


def _observations(findings: Findings) -> dict[str, str]:
    """Return, by arm, what is observed; no expectation is judged unless controls passed and the metric is sensitive."""
    of_controls = {one.control: one.result for one in findings.controls if one.metric == findings.metric}
    have_passed = set(of_controls.values()) == {"passed"}
    why_not = "a control did not pass" if not have_passed else "the metric is not sensitive" * bool(findings.blind)
    observed: dict[str, str] = {str(control): result for control, result in of_controls.items()}
    return observed | {arm: _observed(one, why_not) for arm, one in findings.comparisons.items()}


def _observed(comparison: Comparison, why_not: str) -> str:
    """Return what is observed, and the expectation judged, or why it is not."""
    if comparison.withheld:
        return stacked("not judged", comparison.withheld)
    if comparison.outcome is None:
        return comparison.shows
    if why_not:
        return stacked(comparison.shows, f"not judged: {why_not}")
    judged = ", ".join(filter(None, (comparison.outcome.word, comparison.outcome.qualification)))
    return stacked(comparison.shows, judged)


def _interval(comparison: Comparison) -> str:
    """Return the simultaneous interval, and what it rests on."""
    estimate = comparison.difference
    if not estimate.has_interval:
        return estimate.bounds()
    return stacked(estimate.bounds("+.4f"), estimate.basis)
