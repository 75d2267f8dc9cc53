"""A study: a question, and the comparison that answers it, written before its runs."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, NonNegativeFloat, NonNegativeInt, StringConstraints, TypeAdapter, ValidationError

from aimv2.ablations.design import Arm, Design
from aimv2.ablations.expectations import Expectation, Expected, by_both_readouts, default_margin
from aimv2.base.errors import UsageError, unknown
from aimv2.config.arguments import explain
from aimv2.config.data_config import CHECKED
from aimv2.config.program import Program, Run
from aimv2.definitions.metrics import lower_is_better
from aimv2.definitions.programs import flops_per_sample, with_shuffled_targets

SEARCH_SUFFIX = "_search"  # of the report on the winner of a search
UNTRAINED = "untrained"  # the baseline's encoder before training
WINNER = "winner"  # the arm of a search that is compared with the baseline

Control = Literal["null_control", "positive_control"]
Equal = Literal["samples", "flops"]  # what arms can share with the baseline
Cost = Literal["samples", "flops", "seconds"]  # what reports compare

UNEQUAL = 0.01  # relative deviation from the matched quantity above which an arm is marked as unequal


def untrained_of(arm: str) -> str:
    """Return the name of an arm's encoder before training, where it is not the baseline's."""
    return f"{UNTRAINED}_{arm}"


def is_untrained(name: str) -> bool:
    """True if cells of this name are encoders before training."""
    return name == UNTRAINED or name.startswith(untrained_of(""))


def _shuffled(run: Program) -> Program:
    if (shuffled := with_shuffled_targets(run)) is None:
        raise UsageError(f"runs of {run.kind} have no shuffled targets; leave it out of the study's controls")
    return shuffled


CONTROLS: Mapping[str, Arm] = {
    "null_control": Arm(label="the baseline with other seeds"),
    "positive_control": Arm(label="shuffled captions, or pixels if there are none", change=_shuffled),
}


@dataclass(frozen=True, kw_only=True)
class StudyValues:
    """The values of a study that a command line can override as they are (``ablations/study.py``).

    Attributes:
        slug: the name on the command line, ``sweep=<slug>``.
        source: where in the paper the question comes from.
        baseline: the arm that the others are compared with.
        primary_metric: the final metric that decides the study.
        equivalence_margin: the smallest difference of practical importance, in the primary metric's unit; None for what
            a tenth of the samples is worth, by the sensitivity study.
        claims: by the claim's id (``ablations/claims.yaml``), what must be observed if it holds; expectations of the
            reader are repeated by the second readout (``by_both_readouts``).
        seeds: every arm runs with each; differences are paired by seed.
        equal: what arms share with the baseline: ``samples``, or training ``flops``, to which samples are matched.
        controls: ``null_control`` is the baseline with other seeds and must not differ; ``positive_control`` is the
            baseline with shuffled captions (pixels, if its objective reads no captions) and must be worse.
        allow_mixed_code: True to draw verdicts even if the runs are of different code.
        suffix: of the name of its report, so that the study on another base run has a report of its own.
        is_search: True if a search over the study's factors was run; the arms are the baseline and its winner.
    """

    slug: str
    question: str
    source: str
    baseline: str
    primary_metric: str
    equivalence_margin: NonNegativeFloat | None = None
    claims: Mapping[str, tuple[Expected, ...]] = field(default_factory=dict)
    seeds: tuple[NonNegativeInt, ...] = (0, 1, 2, 3)
    equal: Equal = "samples"
    controls: tuple[Control, ...] = ("null_control", "positive_control")
    allow_mixed_code: bool = False
    suffix: str = ""
    is_search: bool = False


def fits_all(study: "Study", base: Any) -> "Study":
    return study


@dataclass(frozen=True, kw_only=True)
class Study(StudyValues):
    """A study with its arms.

    Attributes:
        design: the arms, and how they were chosen.
        expected: how arms should compare with the baseline in the primary metric; arms without an entry are open.
        fit: returns the study for the data of a base run, where its arms depend on them.
        notes: what ``fit`` has to say about these data, a sentence each.
        stand_ins: metrics that the study would compare on scenes, each with the metric in its place.
        scale: of the base run, unless the command line names one.
        needs: by claim, returns what a base run lacks for the claim's mechanism, and what to type; or nothing.
        base: the run that arms change, of another program than AIMv2, whose base run is that of a scale.
        adapts: True if its arms start from trained weights, which a launch gives as ``start.weights``.
        compares_curves: False if losses along training are those of other tasks in some arms.
        margins: the measured equivalence margins by metric, once a sensitivity study is known.
    """

    design: Design
    expected: Mapping[str, Literal["better", "worse", "equal"]] = field(default_factory=dict)
    fit: Callable[["Study", Any], "Study"] = fits_all
    notes: tuple[str, ...] = ()
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    scale: str = "laptop"
    needs: Mapping[str, Callable[[Any], str]] = field(default_factory=dict)
    base: Program | None = None
    adapts: bool = False
    compares_curves: bool = True
    margins: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        reserved = {name for name in self.arms if name in CONTROLS or is_untrained(name)}
        if reserved:
            names = " and ".join(sorted(reserved))
            raise UsageError(f"sweep {self.slug!r}: {names} cannot name an arm; every study has one of that name")
        if self.baseline not in self.arms:
            raise unknown("sweep.baseline", self.baseline, self.arms)
        others = set(self.arms) - {self.baseline}
        for arm in self.expected.keys() - others:
            raise unknown(f"arm in expected of sweep {self.slug!r}:", arm, others)
        if self.base is None:
            claims = {claim: by_both_readouts(expectations) for claim, expectations in self.claims.items()}
            object.__setattr__(self, "claims", claims)

    @property
    def arms(self) -> Mapping[str, Arm]:
        return self.design.arms

    @property
    def conditions(self) -> list[str]:
        """Arms and controls, in the order of reports."""
        return [*self.arms, *self.controls]

    @property
    def cell_names(self) -> list[str]:
        """All names that cells of the study can have, in the order of reports."""
        return [*self.conditions, UNTRAINED, *map(untrained_of, self.arms)]

    @property
    def deciding_metrics(self) -> list[str]:
        """The metrics that decide something: the primary metric, and those of claims."""
        used = [metric for expectations in self.claims.values() for one in expectations for metric in one.metrics]
        return list(dict.fromkeys([self.primary_metric, *used]))

    @property
    def lower_is_better(self) -> bool:
        return lower_is_better(self.primary_metric)

    def margin(self, metric: str) -> float:
        """Return the equivalence margin of a metric: that of the study, the measured one, or a convention."""
        if metric == self.primary_metric and self.equivalence_margin is not None:
            return self.equivalence_margin
        return self.margins.get(metric, default_margin(metric))

    def with_margins(self, margins: Mapping[str, float]) -> "Study":
        return replace(self, margins=margins)

    @property
    def primary_margin(self) -> float:
        return self.margin(self.primary_metric)

    def margin_of(self, expectation: Expected) -> float:
        """Return the equivalence margin of an expectation: its own, or that of its metric."""
        return self.margin(expectation.metric) if expectation.margin is None else expectation.margin

    @property
    def folder(self) -> str:
        """The name of its report, at the default scale."""
        equal = "" if self.equal == "samples" else f"_equal_{self.equal}"
        return f"{self.slug}{equal}{SEARCH_SUFFIX * self.is_search}{self.suffix and f'_{self.suffix}'}"

    def arm(self, name: str) -> Arm:
        return self.arms[name] if name in self.arms else CONTROLS[name]

    def label(self, name: str) -> str:
        if name == UNTRAINED:
            return UNTRAINED
        if is_untrained(name):
            return f"{self.arm(name.removeprefix(untrained_of(''))).label}, untrained"
        if name == "positive_control" and self.base is not None:
            return "shuffled targets"
        return self.arm(name).label


def confirmation(study: Study, arms: Mapping[str, Arm]) -> Study:
    """Return the study that confirms the winner of a search over a study's factors, on seeds that no trial had: without
    claims, expectations and controls. Its arms are the baseline, and ``WINNER`` unless the baseline itself won."""
    design = Design(kind="confirmation of a search", arms=arms)
    return replace(study, design=design, expected={}, claims={}, controls=(), is_search=True)


def matched(run: Run, baseline: Run, equal: Equal) -> Run:
    """Return the run with the samples that match the baseline's training FLOPs, in whole batches and at least one.

    With equal samples a run is unchanged, so an arm can vary its samples.
    """
    if equal == "samples" or run == baseline:
        return run
    flops = flops_per_sample(run)
    if not flops:
        raise UsageError(f"sweep.equal=flops is not possible: runs of {run.kind} have no flops_per_sample()")
    return run.with_samples(baseline.num_samples * (flops_per_sample(baseline) / flops))


SHARED = tuple(field.name for field in dataclasses.fields(StudyValues))


def _seeds(value: object) -> object:
    """Read a number of seeds as the seeds 0, 1, 2, …"""
    if isinstance(value, list | tuple):
        return value
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{value} must be a number of seeds, at least 1, or a list of seeds")
    return tuple(range(value))


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class StudyOverrides(StudyValues):
    """The values of a study that a launch can override with ``sweep.<field>``.

    Attributes:
        arms: the names of the arms to run.
        suffix: letters, digits and underscores.
        seeds: a list, or a number of seeds.
        expected: every arm but the baseline, so that each can be overridden; None leaves it open.
    """

    arms: tuple[str, ...]
    suffix: Annotated[str, StringConstraints(pattern=r"^\w*$")]
    seeds: Annotated[tuple[NonNegativeInt, ...], BeforeValidator(_seeds)]
    expected: dict[str, Literal["better", "worse", "equal"] | None]

    def apply(self, study: Study) -> Study:
        """Return the study with these values. Its design and seeds stay; cells say which of them run."""
        expected = {arm: relation for arm, relation in self.expected.items() if relation is not None}
        if (self.baseline, self.primary_metric) != (study.baseline, study.primary_metric):
            # The study's own expectations hold for its own baseline and metric only.
            expected = {arm: relation for arm, relation in expected.items() if relation != study.expected.get(arm)}
        if self.baseline in expected:
            raise UsageError(f"sweep.expected.{self.baseline}: it is the baseline, with which the others are compared")
        claims = {claim: expectations for claim, expectations in self.claims.items() if expectations}
        for claim, expectations in claims.items():
            for expected_of in expectations:
                possible = [*study.arms, *CONTROLS] if isinstance(expected_of, Expectation) else list(study.arms)
                if wrong := [arm for arm in expected_of.arms if arm not in possible]:
                    raise unknown(f"arm of sweep.claims.{claim}", wrong[0], possible)
        values = {name: getattr(self, name) for name in SHARED}
        return dataclasses.replace(study, **values | {"seeds": study.seeds, "claims": claims, "expected": expected})


def overrides_from(values: Mapping[str, Any]) -> StudyOverrides:
    """Return the overrides with these values; raises UsageError that starts with the key, ``sweep.<field>``."""
    try:
        return TypeAdapter(StudyOverrides).validate_python(values)
    except ValidationError as error:
        raise UsageError(f"sweep.{explain(error)}") from error


def study_overrides(study: Study) -> StudyOverrides:
    return StudyOverrides(
        **{name: getattr(study, name) for name in SHARED},
        arms=tuple(study.arms),
        expected={arm: study.expected.get(arm) for arm in study.arms},
    )
