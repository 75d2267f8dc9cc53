"""What a sensitivity study found: known effects beside the noise, and the seeds that differences take."""

from aimv2.ablations.ladder import Ladder, Seen, label_of
from aimv2.ablations.studies.sensitivity import RUNGS
from aimv2.analysis.document.model import Paragraph, Section, Table, stacked
from aimv2.analysis.document.template import blocks_of
from aimv2.analysis.inference.intervals import LEVEL, POWER, with_interval
from aimv2.analysis.inference.power import Aim, Noise, seeds_for
from aimv2.analysis.judgement.findings import Findings
from aimv2.analysis.judgement.planner import MAX_SEEDS
from aimv2.analysis.sections.tables import as_heading

MANY_SEEDS = 32  # more than most can afford
ALPHA = (1 - LEVEL) / 2  # of each end of a 95 % interval


def section(findings: Findings) -> Section | None:
    """Return the tables of the ladder; None for a study that has none."""
    ladder = findings.ladder
    if ladder is None:
        return None
    kinds = {kind: ", ".join(label_of(rung, ladder) for rung in rungs) for kind, rungs in RUNGS.items()}
    unseen = [
        f"{as_heading(why)}."
        for metric in findings.sensitivity.values()
        for why in ([metric.text] if metric.is_blind else metric.unseen.values())
    ]
    return Section(
        "Sensitivity",
        [
            *blocks_of("sensitivity", kinds=kinds),
            _decisions(findings, ladder),
            Section("All rungs", [Paragraph("Every rung minus the base, with 95 % intervals:"), _rungs(ladder)]),
            Section("What is not seen", [Paragraph(why) for why in unseen]),
        ],
    )


def _decisions(findings: Findings, ladder: Ladder) -> Table:
    """Return what each metric decides, its noise, its margin, and the seeds that a difference of the margin takes."""
    columns = ["metric", "decides claims on", "SD over seeds", "SD of paired differences", "equivalence margin"]
    columns += ["in units of noise", f"seeds to show a difference of the margin ({100 * POWER:.0f} % power)"]
    columns += [f"smallest difference that {MANY_SEEDS} seeds show"]
    table = Table(columns, name="decisions")
    for metric, seen in ladder.metrics.items():
        margin, noise = findings.study.margin(metric), Noise(seen.paired_sd)
        table.rows.append(
            [
                f"{metric} [{seen.unit}]",
                ", ".join(findings.sensitivity[metric].kinds) or "none",
                f"{seen.seed_sd:.3g}",
                f"{seen.paired_sd:.3g}",
                f"{margin:.3g}",
                _in_noise(margin, seen) if margin else "",
                _seeds(seeds_for(noise, Aim(margin, ALPHA))) if margin else "",
                f"{Aim(0.0, ALPHA).detectable(noise, MANY_SEEDS):.3g}",
            ]
        )
    return table


def _rungs(ladder: Ladder) -> Table:
    """Return the size of each known effect on every metric, and in units of noise."""
    table = Table(["metric", *ladder.rungs.values()], name="rungs")
    for metric, seen in ladder.metrics.items():
        known = {rung: effect for rung in ladder.rungs if (effect := seen.effects.get(rung))}
        cells = {
            rung: stacked(
                with_interval(effect.mean, effect.low, effect.high, "+.3f"), f"{_in_noise(effect.mean, seen)} x noise"
            )
            for rung, effect in known.items()
        }
        table.rows.append([metric, *(cells.get(rung, "") for rung in ladder.rungs)])
    return table


def _in_noise(mean: float, seen: Seen) -> str:
    return f"{abs(mean) / seen.paired_sd:.2g}" if seen.paired_sd else "∞"


def _seeds(number: float) -> str:
    """Return the seeds of two arms by themselves; a study of more arms pools their error, and needs at most as many."""
    if not number <= MAX_SEEDS:
        return f"more than {MAX_SEEDS}"
    return f"{number:.0f}"
