"""The definition of every metric: name, unit, direction and what it needs. Nothing here imports torch."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Literal, NamedTuple, SupportsFloat, TypeVar, get_args

import numpy as np

from aimv2.base.errors import RunFailedError, UsageError, short, unknown
from aimv2.base.plugins import Registry, until_end
from aimv2.config.data_config import is_described, source_name
from aimv2.config.run_config import RunConfig
from aimv2.data.sources.scene import ANSWERED, SCENE_CLASSES
from aimv2.datasets.description import read_source
from aimv2.definitions.items import Items
from aimv2.definitions.objectives import Objective, Report

RECALL_AT = (1, 5)
SCENE_TASKS = ("object", "ink", "count")
EMOJI_TASKS = ("emoji_subcategory", "emoji_category")
TASKS = (*SCENE_TASKS, *EMOJI_TASKS, "digits")  # of probes, besides the sets of ``evaluation.sets``


@dataclass(frozen=True)
class Metric:
    """A final number, its unit and how it was measured. The value is None where it does not apply to the run.

    Attributes:
        warning: what makes the value doubtful; empty if nothing does.
        items: the parts that the value is made of; None if they are not known.
    """

    value: float | None
    unit: str
    evaluation: str
    warning: str = ""
    items: Items | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, value: float | Items, unit: str, evaluation: str) -> "Metric":
        """Return a metric with a value that was measured as a number, or as items."""
        return (
            cls(value.value, unit, evaluation, items=value)
            if isinstance(value, Items)
            else cls(value, unit, evaluation)
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything but the items."""
        return {name: getattr(self, name) for name in ("value", "unit", "evaluation", "warning")}


Needs = Literal["scenes", "emoji", "questions"]  # in the run's data


class Definition(NamedTuple):
    """A metric, or a family of metrics whose names end in a parameter.

    Attributes:
        name: a family's ends in its parameter in angle brackets, such as ``probe_<task>``.
        report: the report that it belongs to, one of ``REPORTS``; None for probes.
        needs: what the run's data must have; empty if any data will do.
    """

    name: str
    unit: str
    lower_is_better: bool
    report: str | None = None
    needs: Needs | None = None


NATS = "nats/token"
ANSWERS = (
    Definition("reader_answers", "accuracy", False, "reader", "questions"),
    Definition("reader_answers_<question>", "accuracy", False, "reader", "scenes"),
    Definition("reader_answers_chance", "accuracy", False, "reader", "questions"),
    Definition("reader_answers_blind", "accuracy", False, "reader", "questions"),
    Definition("reader_pointing", "accuracy", False, "reader", "scenes"),
    Definition("reader_pointing_chance", "accuracy", False, "reader", "scenes"),
)
FINAL = (
    Definition("caption_loss", NATS, True, "captions"),
    Definition("caption_bits", "bits/byte", True, "captions"),
    Definition("short_loss", NATS, True, "captions"),
    Definition("dense_loss", NATS, True, "captions"),
    Definition("content_loss", NATS, True, "captions"),
    Definition("content_loss_<class>", NATS, True, "captions"),
    Definition("causal_content_loss", NATS, True, "captions"),
    Definition("image_gain", NATS, False, "captions"),
    Definition("image_gain_<class>", NATS, False, "captions"),
    Definition("unseen_content_loss", NATS, True, "captions", "scenes"),
    # Losses of raw and of standardised pixels have names of their own, because they cannot be compared.
    Definition("pixel_loss_<fraction>", "squared error of standardised pixels", True, "pixels"),
    Definition("raw_pixel_loss_<fraction>", "squared error of raw pixels", True, "pixels"),
    Definition("image_to_text_recall_<k>", "accuracy", False, "retrieval"),
    Definition("text_to_image_recall_<k>", "accuracy", False, "retrieval"),
    Definition("reader_loss", NATS, True, "reader"),
    Definition("reader_loss_<class>", NATS, True, "reader"),
    Definition("reader_gain", NATS, False, "reader"),
    *ANSWERS,
    Definition("probe_<task>", "accuracy", False),
    Definition("causal_probe_<scene task>", "accuracy", False, None, "scenes"),
    Definition("knn_<task>", "accuracy", False),
)
REPORTS = ("captions", "pixels", "retrieval", "reader")  # groups of metrics that are measured together
OTHERS: Registry[Definition] = Registry("metric")  # of other models than AIMv2 (aimv2/definitions/programs.py)
Values = Callable[[RunConfig], Iterable[object]]
PARAMETERS: dict[str, tuple[str, Values]] = {  # a pattern, and a run's values
    "<fraction>": (r"[\d.e-]+", lambda config: (f"{fraction:g}" for fraction in config.evaluation.prefix_fractions)),
    "<k>": (r"\d+", lambda config: RECALL_AT),
    "<class>": ("|".join(SCENE_CLASSES), lambda config: SCENE_CLASSES),
    "<question>": ("|".join(ANSWERED), lambda config: ANSWERED),
    "<task>": (r".+", lambda config: (*TASKS, *set_names(config))),
    "<scene task>": ("|".join(SCENE_TASKS), lambda config: SCENE_TASKS),
}
GLYPH_CLASSES = ("object", "ink")  # of words in captions of glyphs


_recorded: dict[str, Definition] = {}


def know(metric: Definition) -> None:
    """Let a metric of records be known to this command too, where the plug-in that measured it may be gone."""
    name = metric.name
    known = _recorded.get(name)
    lower = [one.lower_is_better for one in (known, METRICS.get(name)) if one is not None]
    if any(one != metric.lower_is_better for one in lower):
        raise UsageError(
            f"two metrics are called {name!r}, and lower values are better in only one of them; give one of the"
            " functions another name"
        )
    _recorded[name] = metric
    until_end(partial(_recorded.__setitem__, name, known) if known else partial(_recorded.pop, name))


def recorded_metrics() -> list[str]:
    """Return the names of the metrics that are known from records."""
    return list(_recorded)


def is_retired(metric: str) -> bool:
    """True for metrics of older records that are measured no more, and left out when records are read."""
    return re.fullmatch(r"(blind_|reader_)?choice_accuracy(_[a-z]+)?", metric) is not None


def set_name(path: str) -> str:
    """Return the name of a labelled set in names of metrics: that of its file, which is known before it is read."""
    return re.sub(r"\W+", "_", source_name(path))


def set_names(config: RunConfig) -> list[str]:
    """Return the names of the labelled sets of ``evaluation.sets``, on which there are probes too."""
    names = [set_name(path) for path in config.evaluation.sets]
    for number, name in enumerate(names):
        if name in (*TASKS, *names[:number]):
            raise UsageError(f"evaluation.sets: a task is called {name!r} already; give the file another name")
    return names


def unit_of(metric: str) -> str:
    """Return the unit of a metric; an unknown name is a UsageError."""
    return _definition(metric).unit


def lower_is_better(metric: str) -> bool:
    """True if lower values of the metric are better; an unknown name is a UsageError."""
    return _definition(metric).lower_is_better


def is_of_pixels(metric: str) -> bool:
    """True if the metric is a loss of predicted pixels; an unknown name is a UsageError."""
    return _definition(metric).report == "pixels"


def is_of_encoder(metric: str) -> bool:
    """True if the metric is measured on the frozen encoder by a probe or a fresh reader, whatever the run's decoder and
    objective; an unknown name is a UsageError."""
    definition = _definition(metric)
    return definition in FINAL and definition.report in (None, "reader")


def is_reported(metric: str, goal: Objective) -> bool:
    """True if runs of the objective can have the metric, whatever their data."""
    report = _definition(metric).report
    return report is None or report in reports_of(goal)


def metric_names(config: RunConfig) -> list[str]:
    """Return the names of all final metrics, whatever the run's objective and data."""
    own = [metric for definition in FINAL for metric in _members(definition, config)]
    return [*own, *config.evaluation.metrics]


def pixel_losses(config: RunConfig) -> dict[str, float]:
    """Return the names of the run's pixel losses, each with its prefix length as a fraction of the image."""
    start = "raw_" if config.objective.pixel_targets == "raw" else ""
    return {f"{start}pixel_loss_{fraction:g}": fraction for fraction in config.evaluation.prefix_fractions}


def reports_of(goal: Objective) -> list[str]:
    """Return the reports of a run: those of its objective, then those of every run, which no objective can name."""
    return [*goal.reports, *(report for report in REPORTS if report not in get_args(Report))]


def not_applicable(goal: Objective, config: RunConfig) -> dict[str, Metric]:
    """Return the metrics that the run's objective or data cannot have, with the reason instead of a value."""
    return {
        metric: Metric(None, definition.unit, f"not applicable to {why}")
        for definition in FINAL
        for metric in _members(definition, config)
        if (why := _why_not(definition, metric, goal, config))
    }


def _why_not(definition: Definition, metric: str, goal: Objective, config: RunConfig) -> str:
    """Return what a metric does not apply to; empty if it applies."""
    name = f"objective {config.objective.name}"
    if definition.report is not None and definition.report not in reports_of(goal):
        return name
    if definition.report == "reader" and not config.evaluation.reader.samples:
        return "a run without a reader (evaluation.reader.samples=0)"
    if definition in ANSWERS and not config.evaluation.reader.questions:
        return "a run that asks its reader nothing (evaluation.reader.questions=0)"
    if definition.report == "pixels" and metric not in pixel_losses(config):
        return f"{name} with {config.objective.pixel_targets} targets"
    needs = _missing(definition, metric, config)
    return "" if needs is None else f"data without {needs}"


def missing_data(metric: str, config: RunConfig) -> Needs | None:
    """Return what the run's data must have for a metric and has not; None if it has all. An unknown name: as above."""
    return _missing(_definition(metric), metric, config)


def _missing(definition: Definition, metric: str, config: RunConfig) -> Needs | None:
    needs = definition.needs
    if definition.name.endswith("_<task>"):
        task = metric.removeprefix(definition.name.removesuffix("<task>"))
        needs = "scenes" if task in SCENE_TASKS else "emoji" if task in EMOJI_TASKS else None
    if definition.name.endswith("_<class>"):
        is_of_glyphs = metric.endswith(tuple(f"_{name}" for name in GLYPH_CLASSES))
        needs = None if is_of_glyphs and config.data.kind == "glyphs" else "scenes"
    has = "openmoji" in config.data.sources if needs == "emoji" else config.data.has_scenes
    if needs == "questions" and not has:
        described = filter(is_described, config.data.sources)
        has = any(read_source(source).questions is not None for source in described)
    return None if needs is None or has else needs


def is_ours(metric: str) -> bool:
    """True if the metric is built in, or is one of a family that is."""
    return _built_in(metric) is not None


def _definition(metric: str) -> Definition:
    if (definition := _built_in(metric)) is not None:
        return definition
    if metric in METRICS:
        return Definition(metric, METRICS[metric].unit, METRICS[metric].lower_is_better)
    if metric in OTHERS:
        return OTHERS[metric]
    if metric in _recorded:
        return _recorded[metric]
    names = (definition.name for definition in FINAL)
    raise unknown("metric", metric, [*names, *METRICS, *OTHERS, *_recorded])


@cache
def _built_in(metric: str) -> Definition | None:
    for definition in FINAL:
        pattern = definition.name
        for parameter, (values, _) in PARAMETERS.items():
            pattern = pattern.replace(parameter, f"({values})")
        if re.fullmatch(pattern, metric):
            return definition
    return None


def _members(definition: Definition, config: RunConfig) -> list[str]:
    """Return the name of a metric, or the names of the run's metrics of a family."""
    for parameter, (_, values) in PARAMETERS.items():
        if parameter in definition.name:
            return [definition.name.replace(parameter, str(value)) for value in values(config)]
    return [definition.name]


Measure = Callable[[Any], SupportsFloat | Items]  # of a trained model with the data that its run is evaluated on
Function = TypeVar("Function", bound=Measure)


@dataclass(frozen=True)
class PluginMetric:
    """A metric of a plug-in.

    Attributes:
        unit: in reports, such as ``accuracy``.
        measure: returns the value of a trained model: a number, whose uncertainty is that of seeds; or ``Items``, of
            which the value is a ratio of sums, so that its uncertainty is that of items too.
    """

    name: str
    unit: str
    lower_is_better: bool
    measure: Measure

    def value_of(self, model: Any) -> float | Items:
        """Measure a model."""
        try:
            found = self.measure(model)
        except Exception as error:  # of another author's code
            raise RunFailedError("bug", f"metric {self.name}: {type(error).__name__}: {error}") from error
        return checked_value(self.name, found)


def checked_value(metric: str, found: Any) -> float | Items:
    """Return a metric's value, as code of others has measured it."""
    measured = found if isinstance(found, Items) else _number(metric, found)
    if isinstance(measured, Items) and not len(measured.item_N):
        raise RunFailedError("not finite", f"metric {metric} has no items")
    value = measured.value if isinstance(measured, Items) else measured
    if not math.isfinite(value):
        raise RunFailedError("not finite", f"metric {metric} is {value} after training")
    return measured


def _number(metric: str, found: Any) -> float:
    try:
        if isinstance(found, str | bytes | bool) or np.ndim(found):  # tensors too
            raise TypeError
        return float(found)
    except (TypeError, ValueError) as error:
        what = f"metric {metric} returned {short(found)}, which is neither a number nor Items"
        raise RunFailedError("bug", what) from error


def _check_name(name: str, _: PluginMetric) -> None:
    if is_ours(name):
        raise UsageError(f"the metric {name!r} exists already, built in")
    if not name.isidentifier():
        raise UsageError(f"a metric is called {name!r}; use letters, digits and underscores")


METRICS: Registry[PluginMetric] = Registry("metric", check=_check_name)


def metric(unit: str, *, lower_is_better: bool) -> Callable[[Function], Function]:
    """Add the function below as a metric; its name is that of the function."""

    def add(measure: Function) -> Function:
        if not callable(measure):
            raise UsageError(f"@metric stands above a function, not {short(measure)}")
        METRICS.add(measure.__name__, PluginMetric(measure.__name__, unit, lower_is_better, measure))
        return measure

    return add
