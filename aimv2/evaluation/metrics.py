"""The final metrics that there are, their units, and which of them a run cannot have. Nothing here imports torch."""

from dataclasses import dataclass

from aimv2.config.run_config import RunConfig
from aimv2.objectives import objective

RECALL_AT = (1, 5)
TASKS = ("emoji_subcategory", "emoji_category", "digits", "fashion_mnist")  # of probes; which of them, the data decides

CAPTION_UNITS = {
    "caption_loss": "nats/token",
    "caption_bits": "bits/byte",
    "name_loss": "nats/token",
    "description_loss": "nats/token",
    "causal_caption_loss": "nats/token",
}
RETRIEVAL_UNITS = {f"{way}_recall_{k}": "accuracy" for way in ("image_to_text", "text_to_image") for k in RECALL_AT}


@dataclass(frozen=True)
class Metric:
    """A final number, what it is measured in, and how it came about; None where the run can have no such number."""

    value: float | None
    unit: str
    evaluation: str


def lower_is_better(metric: str) -> bool:
    """Which way a final metric improves: losses and bits fall, accuracies and recalls rise."""
    return "_loss" in metric or metric.endswith("_bits") or metric == "train_ms_per_sample"


def metric_names(config: RunConfig) -> list[str]:
    """Of all final metrics that a run can have, whatever its objective, and whatever data there is."""
    pixels = [name for targets in ("standardised", "raw") for name in pixel_units(targets, config)]
    probes = [f"{kind}_{task}" for kind in ("probe", "knn") for task in TASKS]
    return [*CAPTION_UNITS, *pixels, *RETRIEVAL_UNITS, *probes]


def not_applicable(config: RunConfig) -> dict[str, Metric]:
    """The metrics that other runs have and this one cannot, with the reason in place of a value."""
    name, targets = config.objective.name, config.objective.pixel_targets
    reports = objective(name).reports
    why = f"not applicable to objective {name}"
    units: dict[tuple[str, str], str] = {}
    if "captions" not in reports:
        units |= dict.fromkeys(CAPTION_UNITS.items(), why)
    for other in ("standardised", "raw"):
        if "pixels" not in reports:
            units |= dict.fromkeys(pixel_units(other, config).items(), why)
        elif other != targets:
            units |= dict.fromkeys(pixel_units(other, config).items(), f"{why} with {targets} targets")
    if "retrieval" not in reports:
        units |= dict.fromkeys(RETRIEVAL_UNITS.items(), why)
    return {metric: Metric(None, unit, reason) for (metric, unit), reason in units.items()}


def pixel_units(targets: str, config: RunConfig) -> dict[str, str]:
    """Losses of raw and of standardised pixels have names of their own, for they cannot be compared."""
    start = "raw_" if targets == "raw" else ""
    fractions = config.evaluation.prefix_fractions
    return {f"{start}pixel_loss_{fraction:g}": f"squared error of {targets} pixels" for fraction in fractions}
