"""The report of a cost study, from its measurements alone."""

from dataclasses import asdict

from aimv2.base.markdown import escape
from analysis.costs.figures import encoder_points, objective_points
from analysis.costs.measurements import FILE, Measurements, to_json
from analysis.costs.ratios import Median
from analysis.costs.tables import encoders_section, figure, flops_section, training_section
from analysis.document.model import Code, Document, Figure, Paragraph, Section
from analysis.document.template import blocks_of

QUESTION = (
    "What does AIMv2's encoder cost beside those of CLIP, SigLIP and DINOv2 of the same size, and what does a training"
    " step of each objective cost?"
)


def document(measurements: Measurements) -> Document:
    """Return the report; the same measurements give the same document."""
    sections = [
        encoders_section(measurements),
        flops_section(measurements.encoders),
        training_section(measurements),
        _method(measurements),
    ]
    return Document(
        title="Costs of encoders and objectives",
        question=QUESTION,
        conclusion=conclusion(measurements),
        lead=_lead(measurements),
        introduction=[Paragraph(_where(measurements))],
        sections=sections,
        numbers={
            "machine": asdict(measurements.machine),
            "clock": measurements.clock,
            "depth": measurements.depth,
        },
        files={FILE: to_json(measurements).encode()},
    )


def conclusion(measurements: Measurements) -> str:
    """Return the answer: every resolution at its last precision and largest batch, and every timed scale."""
    last = {setting.patches: setting for setting in measurements.encoders}
    sentences = []
    for setting in last.values():
        ratios = {point.row: point.time for point in encoder_points([setting])}
        place = f"{setting.patches} patches, {setting.precision} and batch {setting.batch_size}"
        sentences += [f"Time per image relative to AIMv2 at {place}: {_each(ratios)}."] if ratios else []
    for timed in (setting for setting in measurements.training if setting.cpu_share is not None):
        ratios = {f"`{point.row}`": point.time for point in objective_points([timed])}
        place = f"`{timed.scale}`"
        sentences += [f"Time of a training step relative to `aimv2` at {place}: {_each(ratios)}."] if ratios else []
    return " ".join(sentences)


def _each(ratios: dict[str, Median]) -> str:
    """Return the ratios as a list; those whose intervals include 1 are marked."""
    return ", ".join(
        f"{name} {one.text}" + (" (not told apart)" if one.includes_1 else "") for name, one in ratios.items()
    )


def _lead(measurements: Measurements) -> Figure | None:
    points = encoder_points(measurements.encoders)
    alt = "Time of each encoder relative to AIMv2, by patches, precision and batch"
    caption = "Time per image relative to AIMv2, and FLOPs relative to AIMv2 (grey)."
    return figure("encoders", points, alt, caption) if points else None


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
