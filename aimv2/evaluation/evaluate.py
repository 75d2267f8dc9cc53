"""Evaluation: the held-out curve during training and the final metrics of a run."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from types import ModuleType

import torch

from aimv2.config.run_config import RunConfig
from aimv2.data.prepare import Data
from aimv2.data.transfer import Tested, TransferSet, transfer_sets
from aimv2.evaluation.features import Encoded
from aimv2.evaluation.held_out import Words, prepare_pairs
from aimv2.evaluation.parts import Measured, MeasureParts, finite, unsaved
from aimv2.evaluation.prepare import Prepared, of_split, prepare_evaluation
from aimv2.evaluation.probes import measure as probes
from aimv2.evaluation.trained import TrainedModel
from aimv2.model.network import Network
from aimv2.spec.metrics import MEASURED_BY, Metric, not_applicable, reports_of, set_names, unit_of
from aimv2.spec.objectives import Objective
from aimv2.spec.plugin_metrics import METRICS
from aimv2.training.world import ALONE, World


def evaluate(
    model: Network,
    goal: Objective,
    data: Data,
    config: RunConfig,
    part: MeasureParts = unsaved,
    world: World = ALONE,
    transfer: Callable[[Data, Tested, int], list[TransferSet]] = transfer_sets,
) -> dict[str, Metric]:
    """Return the run's reports on held-out pairs and the probes of the frozen encoder.

    Metrics that do not apply to the objective or the data are there too, without a value. Several ranks share the
    images in batches of ``images_at_once``, and whole probes, so that all values are bitwise those of one process on
    equal hardware.

    Args:
        model: with the same weights on all ranks.
        goal: the objective that the config names.
        part: called with the names of parts, reports or probes, and the function that measures them; may return values
            that were measured before (``Parts``).
        world: ranks that all call this; rank 0 gets all values.
        transfer: returns the tasks of the probes.

    Raises:
        RunFailedError: a metric is not finite.
    """
    prepared = prepare_evaluation(data, config, transfer)
    encoded = Encoded(model.encoder, prepared.held_out.images, config, world)
    measured: dict[str, Measured] = {}
    for report in reports_of(goal):
        measured |= part([report], partial(_report, _module(report), model, encoded, prepared))
    sets: list[TransferSet] = []
    if config.evaluation.sets:
        from aimv2.datasets.labelled import labelled_sets  # here, because it takes long to import

        sets = labelled_sets(config, set_names(config))
    measured |= probes.measure(encoded, [*prepared.transfer, *sets], part)
    trained = TrainedModel(model, config, prepared.held_out, encoded, lambda: prepared.transfer)
    for name in config.evaluation.metrics:
        measured |= part([f"metric_{name}"], partial(_metric, name, trained))
    metrics = {
        name: Metric(one.value, unit_of(name), one.how, one.warning, one.items if one.number is None else None)
        for name, one in measured.items()
        if len(one.items.item_N) or one.number is not None  # else the data has no such word or choice
    }
    return metrics | not_applicable(goal, config)


def _module(report: str) -> ModuleType:
    return import_module(MEASURED_BY[report])


def _report(
    module: ModuleType, model: Network, encoded: Encoded, prepared: Prepared, names: Sequence[str]
) -> list[dict[str, Measured]]:
    """Measure a report, which is one part."""
    return [finite(module.measure(model, encoded, prepared))]


def _metric(name: str, model: TrainedModel, names: Sequence[str]) -> list[dict[str, Measured]]:
    """Measure a metric of a plug-in, which is one part."""
    plugin = METRICS.plugin_of(name)
    how = f"{len(model.items):,} held-out pairs, by {'' if plugin is None else plugin.id}"
    model.network.eval()
    with torch.no_grad():
        return [{name: Measured.of(METRICS[name].value_of(model), how)}]


def held_out_curve(goal: Objective, data: Data, config: RunConfig) -> Callable[[Network], dict[str, float]]:
    """Return the function that measures a point of the held-out curve, on ``evaluation.curve_pairs`` pairs.

    An objective without reports has no such curve.
    """
    if not goal.reports:
        return lambda model: {}
    words = Words.of(data.tokenizer, config)
    pairs = of_split(data.held_out, config.evaluation.curve_pairs, config.evaluation)
    held_out = prepare_pairs(pairs, words, config.data.max_bad_rate)
    module = _module(goal.reports[0])
    return lambda model: module.curve(model, held_out, config)
