"""All metrics of all arms."""

from aimv2.analysis.document.model import Block, Bullets, Paragraph, Section, Table, stacked
from aimv2.analysis.judgement.conclusions import code_note, warnings
from aimv2.analysis.judgement.conclusions import findings as detected
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.sections.words import metric_title, withheld
from aimv2.base.markdown import escape


def section(findings: Findings) -> Section:
    """Return what is detected in all metrics, and the table."""
    study, evidence = findings.study, findings.evidence
    blocks = [*_doubtful(findings), *_later(findings)]
    if found := detected(study, evidence):
        chosen = "none of them was" if findings.is_later else "only the primary metric was"
        have_passed = all(outcome.result == "passed" for outcome in findings.controls)
        blocks += [
            Paragraph(
                "These differences exclude 0 even with simultaneous 95 % intervals for the whole table. They are"
                f" exploratory: {chosen} chosen before the runs."
                + " A control did not pass, so they are not reliable."
                * (not have_passed)
            ),
            Bullets([escape(one) for one in found]),
        ]
    elif code_note(study, evidence) and not study.allow_mixed_code:
        blocks.append(
            Paragraph("Differences from the baseline are not tested, because the runs are of different code.")
        )
    else:
        blocks.append(
            Paragraph(
                "With simultaneous 95 % intervals for the whole table, no difference from the baseline excludes 0."
            )
        )
    explained = Paragraph(
        "Means over seeds with 95 % intervals; Δ is the difference from the baseline. These intervals are not"
        " simultaneous, so some differences exclude 0 by chance, and they cover seeds only."
        + " The untrained encoder is a strong baseline at small scales."
        * (study.base is None)
    )
    return Section("All metrics", [*blocks, Section("Table", [explained, _table(findings)])])


def of_baseline(findings: Findings) -> Section | None:
    """Return the metrics of the baseline on fresh seeds, for a search that compares nothing with it; None without
    runs."""
    evidence, metric = findings.evidence, findings.metric
    if evidence.runs.empty:
        return None
    seeds, split = sorted(evidence.runs["seed"]), escape(findings.config.split)
    about = (
        f"The baseline, *{findings.study.label(findings.study.baseline)}*, was also measured on the {split} split, with"
        f" {'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}, which no trial has seen. Nothing is"
        " compared with it."
    )
    if measured := evidence.evaluation(metric):
        about += f" The {metric_title(metric)} is measured on {escape(measured)}."
    blocks: list[Block] = [Paragraph(about), *_doubtful(findings)]
    explained = Paragraph("Means over seeds, from three seeds on with 95 % intervals, which cover seeds only.")
    return Section("Baseline on fresh seeds", [*blocks, explained, _table(findings)])


def _doubtful(findings: Findings) -> list[Block]:
    found = warnings(findings.study, findings.evidence)
    return [Paragraph("These values are doubtful:"), Bullets([escape(one) for one in found])] if found else []


def _later(findings: Findings) -> list[Block]:
    """Return how metrics were measured on the finished runs."""
    known = {one.name: findings.evidence.evaluation(one.name) for one in findings.request.metrics}
    each = [f"`{name}`: {escape(how)}." for name, how in known.items() if how]
    return [Paragraph("These metrics were measured after the runs, of their weights:"), Bullets(each)] if each else []


def _table(findings: Findings) -> Table:
    """Return every metric of every arm, with the difference from the baseline.

    A metric is not applicable if the arm's objective does not have it.
    """
    study, evidence = findings.study, findings.evidence
    arms, absent = findings.present(list(evidence.metrics["arm"].unique())), evidence.not_applicable
    not_applicable = set(zip(absent["metric"], absent["arm"], strict=True))
    table = Table(["metric", *(study.label(arm) for arm in arms)], name="metrics")
    for metric in dict.fromkeys(evidence.metrics["metric"]):
        values = evidence.values(metric)
        cells: list[str] = [stacked(escape(metric_title(metric)), f"[{escape(evidence.unit(metric))}]")]
        for arm in arms:
            if arm not in values:
                cells.append("not applicable" if (metric, arm) in not_applicable else "not measured")
                continue
            mean = evidence.mean(metric, arm)
            lines = [mean.text(".3f")]
            if arm != study.baseline:
                lines.append(f"Δ {withheld(findings, arm) or findings.differences.separately(metric, arm).text()}")
            cells.append(stacked(*lines))
        table.rows.append(cells)
    return table
