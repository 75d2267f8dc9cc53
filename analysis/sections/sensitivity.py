"""What a sensitivity study found: known effects beside the noise, and the seeds that differences take."""

import math
from collections.abc import Sequence

from analysis.document.model import Block, Cell, Paragraph, Section, Table
from analysis.document.template import blocks_of
from analysis.inference.intervals import POWER, with_interval
from analysis.judgement.findings import Findings
from analysis.judgement.sensitivity import Ladder, Seen, seeds_needed, sensitivity_of, small_step


def section(findings: Findings, figures: Sequence[Block] = ()) -> Section | None:
    """Return the tables of the ladder; None for a study that has none."""
    if findings.ladder is None:
        return None
    rungs = Section(
        "All rungs", [Paragraph("Every rung minus the base, with 95 % intervals:"), _rungs(findings.ladder)], True
    )
    return Section("Sensitivity", [*blocks_of("sensitivity"), *figures, _decisions(findings, findings.ladder), rungs])


def _decisions(findings: Findings, ladder: Ladder) -> Table:
    """Return noise, the small step, and the seeds that differences take, for every metric."""
    columns = ["metric", "decides claims", "SD over seeds", "SD of paired differences"]
    columns += ["half of the samples (time: of the depth)", "in units of noise"]
    columns += [f"seeds to show it ({100 * POWER:.0f} % power)", "equivalence margin"]
    table = Table([*columns, "seeds to show a difference of the margin"], name="decisions", is_filterable=True)
    judged = sensitivity_of(ladder)
    for metric, seen in ladder.metrics.items():
        effect, margin = seen.effects.get(small_step(metric)[0]), findings.study.margin(metric)
        shown: list[str | Cell] = [""] * 3
        if effect:
            needed = seeds_needed(seen.paired_sd, abs(effect.mean))
            shown = [effect.text(), _in_noise(effect.mean, seen), _seeds(needed)]
        table.rows.append(
            [
                f"{metric} [{seen.unit}]",
                "yes" if judged[metric].tells_small_steps else "no",
                Cell((f"{seen.seed_sd:.3g}",), value=seen.seed_sd),
                Cell((f"{seen.paired_sd:.3g}",), value=seen.paired_sd),
                *shown,
                f"{margin:g}",
                _seeds(seeds_needed(seen.paired_sd, margin)) if margin else "",
            ]
        )
    return table


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
