"""The definition of every metric: name, unit, direction and report. Nothing here imports torch."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from aimv2.config.run_config import RunConfig
from aimv2.errors import unknown
from aimv2.objectives import Objective
from aimv2.objectives.registry import Report

RECALL_AT = (1, 5)
TASKS = ("emoji_subcategory", "emoji_category", "digits", "fashion_mnist")  # of probes; the data decides which exist


@dataclass(frozen=True)
class Metric:
    """A final number, its unit and how it was measured. The value is None where it does not apply to the run."""

    value: float | None
    unit: str
    evaluation: str


class Definition(NamedTuple):
    """A metric, or a family of metrics whose names end in a parameter.

    Attributes:
        name: a family's ends in its parameter in angle brackets, such as ``probe_<task>``.
        report: the report of an objective that it belongs to; None if every run can have it.
    """

    name: str
    unit: str
    lower_is_better: bool
    report: Report | None = None


FINAL = (
    Definition("caption_loss", "nats/token", True, "captions"),
    Definition("caption_bits", "bits/byte", True, "captions"),
    Definition("name_loss", "nats/token", True, "captions"),
    Definition("description_loss", "nats/token", True, "captions"),
    Definition("causal_caption_loss", "nats/token", True, "captions"),
    # Losses of raw and of standardised pixels have names of their own, because they cannot be compared.
    Definition("pixel_loss_<fraction>", "squared error of standardised pixels", True, "pixels"),
    Definition("raw_pixel_loss_<fraction>", "squared error of raw pixels", True, "pixels"),
    Definition("image_to_text_recall_<k>", "accuracy", False, "retrieval"),
    Definition("text_to_image_recall_<k>", "accuracy", False, "retrieval"),
    Definition("probe_<task>", "accuracy", False),
    Definition("knn_<task>", "accuracy", False),
)
DEFINITIONS = (*FINAL, Definition("train_cpu_ms_per_sample", "ms/sample", True))  # the last: from the record
PARAMETERS: dict[str, tuple[str, Callable[[RunConfig], Iterable[object]]]] = {  # a pattern, and a run's values
    "<fraction>": (r"[\d.e-]+", lambda config: (f"{fraction:g}" for fraction in config.evaluation.prefix_fractions)),
    "<k>": (r"\d+", lambda config: RECALL_AT),
    "<task>": (r"\w+", lambda config: TASKS),
}


def unit_of(metric: str) -> str:
    """Return the unit of a metric; an unknown name is a UsageError."""
    return _definition(metric).unit


def lower_is_better(metric: str) -> bool:
    """True if lower values of the metric are better; an unknown name is a UsageError."""
    return _definition(metric).lower_is_better


def metric_names(config: RunConfig) -> list[str]:
    """Return the names of all final metrics, whatever the run's objective and data."""
    return [metric for definition in FINAL for metric in _members(definition, config)]


def pixel_losses(config: RunConfig) -> dict[str, float]:
    """Return the names of the run's pixel losses, each with its prefix length as a fraction of the image."""
    start = "raw_" if config.objective.pixel_targets == "raw" else ""
    return {f"{start}pixel_loss_{fraction:g}": fraction for fraction in config.evaluation.prefix_fractions}


def not_applicable(goal: Objective, config: RunConfig) -> dict[str, Metric]:
    """Return the metrics that the run's objective cannot report, with the reason instead of a value."""
    why = f"not applicable to objective {config.objective.name}"
    absent = {}
    for definition in FINAL:
        for metric in _members(definition, config):
            if definition.report is not None and definition.report not in goal.reports:
                absent[metric] = Metric(None, definition.unit, why)
            elif definition.report == "pixels" and metric not in pixel_losses(config):
                how = f"{why} with {config.objective.pixel_targets} targets"
                absent[metric] = Metric(None, definition.unit, how)
    return absent


def _definition(metric: str) -> Definition:
    for definition in DEFINITIONS:
        pattern = definition.name
        for parameter, (values, _) in PARAMETERS.items():
            pattern = pattern.replace(parameter, values)
        if re.fullmatch(pattern, metric):
            return definition
    raise unknown("metric", metric, [definition.name for definition in DEFINITIONS])


def _members(definition: Definition, config: RunConfig) -> list[str]:
    """Return the name of a metric, or the names of the run's metrics of a family."""
    for parameter, (_, values) in PARAMETERS.items():
        if parameter in definition.name:
            return [definition.name.replace(parameter, str(value)) for value in values(config)]
    return [definition.name]
