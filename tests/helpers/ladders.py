"""Findings of sensitivity studies with chosen effects."""

from aimv2.ablations.ladder import KnownEffect, Ladder, Seen, base_of, nearest_ladder
from aimv2.analysis.judgement.sensitivity import ladder_text, sensitivity_by
from aimv2.definitions.metrics import lower_is_better

LABELS = {"untrained": "untrained", "positive_control": "shuffled captions", "width_050": "half as wide"}
HARMS = {  # by rung, how much worse a metric is that sees everything
    "samples_025": 2.0, "samples_050": 1.0, "samples_075": 0.4, "samples_200": -0.8, "untrained": 5.0,
    "positive_control": 3.0, "pixels_only": 2.5, "pixels_shuffled": 2.0, "width_050": 0.5, "depth_050": 0.5,
    "width_200": -0.5, "depth_200": -0.5, "hidden_050": 0.6,
}  # fmt: skip


def effect(mean, half_width=0.1):
    return KnownEffect(mean=mean, low=round(mean - half_width, 8), high=round(mean + half_width, 8), num_seeds=4)


def seen_of(metric, harms, *, paired_sd=0.1, items_error=None, half_width=0.1):
    """Return what is seen of a metric that is so much worse on each rung, whatever its direction."""
    sign = 1 if lower_is_better(metric) else -1
    effects = {rung: effect(sign * harm, half_width) for rung, harm in harms.items()}
    above = {
        rung: effect(sign * (harms["untrained"] - harms[rung]), half_width)
        for rung in ("pixels_only", "pixels_shuffled")
        if {rung, "untrained"} <= harms.keys()
    }
    return Seen(unit="", seed_sd=0.2, paired_sd=paired_sd, effects=effects, items_error=items_error, above=above)


def ladder_of(harms, config, **values):
    """Return a ladder with these harms, by metric and rung, on the base of a config.

    Args:
        values: as in ``seen_of``.
    """
    metrics = {metric: seen_of(metric, rungs, **values) for metric, rungs in harms.items()}
    return Ladder(base=base_of(config), rungs=LABELS, metrics=metrics)


def seeing(*metrics, scale=1.0, **changed):
    """Return the harms of metrics that see every rung but for these; None was not measured."""
    rungs = {rung: scale * harm for rung, harm in (HARMS | changed).items() if harm is not None}
    return dict.fromkeys(metrics, rungs)


def write_ladder(reports_dir, ladder, name="sensitivity"):
    """Write a ladder as the report of a sensitivity study."""
    folder = reports_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sensitivity.json").write_text(ladder_text(ladder))
    return reports_dir


def read_sensitivity(reports_dir, config):
    """Return the sensitivity of each metric that was measured on a baseline's run, whatever its seed."""
    return sensitivity_by(nearest_ladder(reports_dir, config), config)
