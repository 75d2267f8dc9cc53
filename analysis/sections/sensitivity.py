"""What a sensitivity study found: known effects beside the noise, and the seeds that differences take."""

import math

from aimv2.ablations.studies.sensitivity import RUNGS
from aimv2.analysis.document.model import Paragraph, Section, Table, stacked
from aimv2.analysis.document.template import blocks_of
from aimv2.analysis.inference.intervals import LEVEL, POWER, with_interval
from aimv2.analysis.inference.power import Aim, Noise
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.sensitivity import Ladder, MetricSensitivity, Seen, label_of, seeds_needed

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
            Section("All rungs", [Paragraph("Every rung minus the base, with 95 % intervals:"), _rungs(ladder)]),
            Section("What is not seen", [Paragraph(one) for one in unseen]),
        ],
    )


def _decisions(findings: Findings, ladder: Ladder) -> Table:
    """Return what each metric decides, its noise, its margin, and the seeds that a difference of the margin takes."""
    columns = ["metric", "decides claims on", "SD over seeds", "SD of paired differences", "equivalence margin"]
    columns += ["in units of noise", f"seeds to show a difference of the margin ({100 * POWER:.0f} % power)"]
    columns += ["smallest difference that 32 seeds show"]
    table = Table(columns, name="decisions")
    for metric, seen in ladder.metrics.items():
        own, margin = findings.sensitivity[metric], findings.study.margin(metric)
        detectable = Aim(0.0, (1 - LEVEL) / 2).detectable(Noise(seen.paired_sd), MANY_SEEDS)
        share = own.curve.share(detectable)
        told = "" if math.isnan(share) else f"{100 * (1 - share):.0f} % of the samples"
        table.rows.append(
            [
                f"{metric} [{seen.unit}]",
                _decided(metric, own),
                f"{seen.seed_sd:.3g}",
                f"{seen.paired_sd:.3g}",
                f"{margin:.3g}",
                _in_noise(margin, seen) if margin else "",
                _seeds(seeds_needed(seen.paired_sd, margin)) if margin else "",
                stacked(*filter(None, (f"{detectable:.3g}", told))),
            ]
        )
    return table


def _decided(metric: str, own: MetricSensitivity) -> str:
    if own.is_blind:
        return "none"
    return ", ".join(kind for kind in RUNGS if kind not in own.unseen) or "none"


def _rungs(ladder: Ladder) -> Table:
    """Return the size of each known effect on every metric, and in units of noise."""
    table = Table(["metric", *ladder.rungs.values()], name="rungs")
    for metric, seen in ladder.metrics.items():
        row: list[str] = [metric]
        for rung in ladder.rungs:
            effect = seen.effects.get(rung)
            if effect is None:
                row.append("")
                continue
            noise = _in_noise(effect.mean, seen)
            shown = with_interval(effect.mean, effect.low, effect.high, "+.3f")
            row.append(stacked(shown, f"{noise} x noise"))
        table.rows.append(row)
    return table


def _in_noise(mean: float, seen: Seen) -> str:
    if not seen.paired_sd:
        return "∞"
    ratio = abs(mean) / seen.paired_sd
    return f"{ratio:.2g}"


def _seeds(number: float) -> str:
    if math.isinf(number):
        return "more than 999"
    return f"{number:.0f}"
