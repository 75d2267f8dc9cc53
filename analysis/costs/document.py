"""The report of a cost study, from its measurements alone."""

from typing import Any

from analysis.costs.measurements import FILE, Machine, Measurements, to_json
from analysis.costs.ratios import Median
from analysis.costs.tables import (
    INTERVALS,
    encoder_numbers,
    encoders_section,
    figure,
    flops_section,
    objective_numbers,
    training_section,
)
from analysis.document.model import Bullets, Code, Document, Figure, Paragraph, Section, escape
from analysis.figures.costs import encoder_points, encoder_ratios, objective_points

QUESTION = (
    "What does AIMv2's encoder cost beside those of CLIP, SigLIP and DINOv2 of the same size, and what does a training"
    " step of each objective cost?"
)


def document(measurements: Measurements) -> Document:
    """Return the report; the same measurements give the same document."""
    encoders, training = measurements.encoders, measurements.training
    sections = [
        encoders_section(measurements),
        flops_section(encoders),
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
            "machine": _machine(measurements.machine),
            "clock": measurements.clock,
            "depth": measurements.depth,
            "encoders": [encoder_numbers(setting, one) for setting in encoders for one in setting.encoders],
            "objectives": [objective_numbers(setting, one) for setting in training for one in setting.objectives],
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
    if not encoder_points(measurements.encoders):
        return None
    return figure(
        "encoders",
        encoder_ratios,
        measurements,
        alt="Time of each encoder relative to AIMv2, by patches, precision and batch",
        caption=f"Time per image relative to AIMv2, and FLOPs relative to AIMv2 (grey). {INTERVALS}",
    )


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
    clock = "CPU seconds of the process" if measurements.clock == "cpu" else "wall seconds"
    items = [
        "All encoders are randomly initialised, in evaluation mode, and return the features of all patches. The images"
        f" are noise. Each has a depth of {measurements.depth} and is the implementation of its package, so a ratio is"
        " one of implementations as much as of architectures.",
        f"Calls are timed in turn, in {clock}: every round times each encoder once, starting with another one each"
        " time. A change of the machine's speed affects all alike. Rounds that follow each other are not quite"
        " independent, so intervals may be too narrow.",
        "The rate of an encoder is its FLOPs over its p50; it is given as a share of the rate of the first product of"
        " AIMv2's FFN, timed in the same rounds.",
        "FLOPs of encoders are counted by torch's `FlopCounterMode` with the math backend of attention; the closed form"
        " of AIMv2 is that of `aimv2.cost`. Norms, activations and softmax are left out.",
        "Peak memory is the largest sum of what torch's allocator holds at a time during a call, weights and input not"
        " included. It is exact and does not depend on the load. Memory that libraries allocate by themselves is not"
        " seen; in bfloat16, scratch memory of oneDNN's convolution is.",
        "A training step is the forward and backward pass, clipping and AdamW, as in training, on a batch of noise in"
        f" {'bfloat16' if measurements.machine.device == 'cuda' else 'float32'}. All captions have the maximal length,"
        " and all of their tokens are supervised. FLOPs of training are closed forms.",
        "One machine was measured. On another one the ratios can differ; FLOPs cannot.",
    ]
    rebuild = "python analysis/report.py costs"
    commands = Code(f"{measurements.command}\n{rebuild}  # this page again, from {FILE}")
    return Section("Method", [Bullets(items), commands])


def _machine(machine: Machine) -> dict[str, Any]:
    return {
        "name": machine.name,
        "device": machine.device,
        "threads": machine.threads,
        "packages": machine.packages,
        "load": machine.load,
    }
