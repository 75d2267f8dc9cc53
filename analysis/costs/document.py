"""The report of a cost study, from its measurements alone."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from aimv2.analysis.costs.figures import draw_encoders
from aimv2.analysis.costs.measurements import ARCHITECTURES, FILE, OURS, Measurements, to_json
from aimv2.analysis.costs.ratios import Median, relative
from aimv2.analysis.costs.tables import INTERVALS, encoders_section, flops_section, training_section
from aimv2.analysis.document.model import Bullets, Code, Document, Figure, Paragraph, Section
from aimv2.analysis.document.style import style
from aimv2.analysis.document.template import blocks_of
from aimv2.base.markdown import escape

QUESTION = (
    "What does AIMv2's encoder cost beside those of CLIP, SigLIP and DINOv2 of the same size, and what does a training"
    " step of each objective cost?"
)


def document(measurements: Measurements) -> Document:
    """Return the report; the same measurements give the same document."""
    sentences = conclusion(measurements)
    return Document(
        title=QUESTION,
        subtitle="[Reports](../index.md) · costs",
        answer=_answer(measurements),
        lead=_lead(measurements),
        sections=[Section("In words", [Bullets(sentences), Paragraph(_where(measurements))])],
        details=[
            encoders_section(measurements),
            flops_section(measurements.encoders),
            training_section(measurements),
            _method(measurements),
        ],
        numbers={
            "machine": asdict(measurements.machine),
            "clock": measurements.clock,
            "depth": measurements.depth,
        },
        files={FILE: to_json(measurements).encode()},
    )


def _answer(measurements: Measurements) -> str:
    """Return what the other encoders take at the first resolution, in short; empty if there are none."""
    setting = [one for one in measurements.encoders if one.patches == measurements.encoders[0].patches][-1]
    seconds = {ARCHITECTURES[one.encoder].title.partition(" ")[0]: one.seconds for one in setting.encoders}
    ours = seconds.pop(ARCHITECTURES[OURS].title.partition(" ")[0])
    ratios = [f"{name} {relative(theirs, ours).median:.2f}" for name, theirs in seconds.items()]
    return f"An image of {setting.patches} patches takes {', '.join(ratios)} times as long as AIMv2." if ratios else ""


def conclusion(measurements: Measurements) -> list[str]:
    """Return a sentence for every resolution at its last precision and largest batch, and for every timed scale."""
    last = {setting.patches: setting for setting in measurements.encoders}
    sentences = []
    for setting in last.values():
        seconds = {ARCHITECTURES[one.encoder].title: one.seconds for one in setting.encoders}
        place = f"{setting.patches} patches, {setting.precision} and batch {setting.batch_size}"
        sentences += _relative(f"Time per image relative to AIMv2 at {place}", seconds, ARCHITECTURES[OURS].title)
    for timed in measurements.training:
        seconds = {f"`{one.objective}`": one.seconds for one in timed.objectives if one.seconds}
        sentences += _relative(f"Time of a training step relative to `aimv2` at `{timed.scale}`", seconds, f"`{OURS}`")
    return sentences


def _relative(about: str, seconds: Mapping[str, Sequence[float]], ours: str) -> list[str]:
    """Return a sentence with the ratios of all timings to ours; none if there are no others."""
    ratios = {name: relative(theirs, seconds[ours]) for name, theirs in seconds.items() if name != ours}
    return [f"{about}: {_each(ratios)}."] if ratios else []


def _each(ratios: dict[str, Median]) -> str:
    """Return the ratios as a list; those whose intervals include 1 are marked."""
    return ", ".join(
        f"{name} {one.text}" + (" (not told apart)" if one.includes_1 else "") for name, one in ratios.items()
    )


def _lead(measurements: Measurements) -> Figure | None:
    if all(len(setting.encoders) == 1 for setting in measurements.encoders):
        return None
    alt = "Time of each encoder relative to AIMv2, by patches, precision and batch"
    caption = f"Time per image relative to AIMv2, and FLOPs relative to AIMv2 (grey). {INTERVALS}"
    with style():
        return Figure("encoders", alt, caption, *draw_encoders(measurements.encoders))


def _where(measurements: Measurements) -> str:
    machine = measurements.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    threads = f"{machine.threads} thread{'s' if machine.threads > 1 else ''}"
    text = f"Measured on {escape(machine.name)}, {threads}, {versions}."
    if measurements.clock == "cpu":
        text += " Times are CPU seconds of the process, because other work took a part of the machine."
    shares = [setting.cpu_share for setting in measurements.encoders]
    shares += [timed.cpu_share for timed in measurements.training if timed.cpu_share is not None]
    if machine.device == "cpu" and shares:
        text += f" The process got {min(shares):.0%} to {max(shares):.0%} of the time of its threads"
        text += "." if machine.load is None else f"; the load average before was {machine.load:g}."
    return text


def _method(measurements: Measurements) -> Section:
    """Return how the numbers were made, and what they cannot tell."""
    commands = Code(f"{measurements.command}\npython analysis/report.py costs  # this page again, from {FILE}")
    values = {"depth": measurements.depth, "clock": measurements.clock, "device": measurements.machine.device}
    return Section("Method", blocks_of("costs_method", {"commands": commands}, **values))
