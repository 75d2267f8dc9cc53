"""What a sensitivity study found: known effects beside the noise, and the seeds that differences take."""

import math

from aimv2.ablations.ladder import Ladder, Seen, label_of
from aimv2.ablations.studies.sensitivity import RUNGS
from aimv2.analysis.document.model import Cell, Paragraph, Section, Table
from aimv2.analysis.document.template import blocks_of
from aimv2.analysis.inference.intervals import LEVEL, POWER, with_interval
from aimv2.analysis.inference.power import Aim, Noise
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.sensitivity import MetricSensitivity, seeds_needed

MANY_SEEDS = 32  # more than most can afford


def section(findings: Findings) -> Section | None:
    """Return the tables of the ladder; None for a study that has none."""
    ladder = findings.ladder
    if ladder is None:
        return None
    kinds = {kind: ", ".join(label_of(rung, ladder) for rung in rungs) for kind, rungs in RUNGS.items()}
    unseen = [
        f"{why[0].upper()}{why[1:]}."
        for one in findings.sensitivity.values()
        for why in ([one.text] if one.is_blind else one.unseen.values())
    ]
    return Section(
        "Sensitivity",
        [
            *blocks_of("sensitivity", kinds=kinds),
            _decisions(findings, ladder),
            Section("All rungs", [Paragraph("Every rung minus the base, with 95 % intervals:"), _rungs(ladder)], True),
            Section("What is not seen", [Paragraph(one) for one in unseen], True),
        ],
    )


def _decisions(findings: Findings, ladder: Ladder) -> Table:
    """Return what each metric decides, its noise, its margin, and the seeds that a difference of the margin takes."""
    columns = ["metric", "decides claims on", "SD over seeds", "SD of paired differences", "equivalence margin"]
    columns += ["in units of noise", f"seeds to show a difference of the margin ({100 * POWER:.0f} % power)"]
    columns += ["smallest difference that 32 seeds show"]
    table = Table(columns, name="decisions", is_filterable=True)
    for metric, seen in ladder.metrics.items():
        own, margin = findings.sensitivity[metric], findings.study.margin(metric)
        detectable = Aim(0.0, (1 - LEVEL) / 2).detectable(Noise(seen.paired_sd), MANY_SEEDS)
        share = own.curve.share(detectable)
        told = "" if math.isnan(share) else f"{100 * (1 - share):.0f} % of the samples"
        table.rows.append(
            [
                f"{metric} [{seen.unit}]",
                _decided(metric, own),
                Cell((f"{seen.seed_sd:.3g}",), value=seen.seed_sd),
                Cell((f"{seen.paired_sd:.3g}",), value=seen.paired_sd),
                Cell((f"{margin:.3g}",), value=margin),
                _in_noise(margin, seen) if margin else "",
                _seeds(seeds_needed(seen.paired_sd, margin)) if margin else "",
                Cell(tuple(filter(None, (f"{detectable:.3g}", told))), value=detectable),
            ]
        )
    return table


def _decided(metric: str, own: MetricSensitivity) -> str:
    if own.is_blind:
        return "none"
    return ", ".join(kind for kind in RUNGS if kind not in own.unseen) or "none"


def _rungs(ladder: Ladder) -> Table:
    """Return the size of each known effect on every metric, and in units of noise."""
    table = Table(["metric", *ladder.rungs.values()], name="rungs", is_filterable=True)
    for metric, seen in ladder.metrics.items():
        row: list[str | Cell] = [metric]
        for rung in ladder.rungs:
            effect = seen.effects.get(rung)
            if effect is None:
                row.append("")
                continue
            noise = _in_noise(effect.mean, seen).lines[0]
            shown = with_interval(effect.mean, effect.low, effect.high, "+.3f")
            row.append(Cell((shown, f"{noise} x noise"), value=effect.mean))
        table.rows.append(row)
    return table


def _in_noise(mean: float, seen: Seen) -> Cell:
    if not seen.paired_sd:
        return Cell(("∞",))
    ratio = abs(mean) / seen.paired_sd
    return Cell((f"{ratio:.2g}",), value=ratio)


def _seeds(number: float) -> Cell:
    if math.isinf(number):
        return Cell(("more than 999",))
    return Cell((f"{number:.0f}",), value=number)
