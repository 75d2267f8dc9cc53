"""Why a study draws no verdict, and what qualifies the verdicts and limits the numbers that it has.

A verdict is withheld if runs are of different code or failed, a control did not pass, the metric is not shown to be
sensitive, arms or metrics are absent, or the runs lack the claim's mechanism. What there was before training qualifies
a verdict; seeds, budget and epochs limit a number.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

from aimv2.ablations.claims import CLAIMS
from aimv2.ablations.expectations import READER, Combination, Expectation, Expected, Ranges
from aimv2.ablations.request import Request
from aimv2.ablations.study import UNEQUAL, UNTRAINED, Control, Study
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.inference.intervals import NO_ESTIMATE, Estimate
from aimv2.analysis.inference.relations import finding
from aimv2.analysis.judgement.differences import COSTS, Differences
from aimv2.analysis.judgement.sensitivity import MetricSensitivity, insensitive
from aimv2.base.errors import count
from aimv2.config.program import Program
from aimv2.definitions.metrics import is_of_encoder, is_ours, lower_is_better

# Muennighoff et al. (arXiv 2305.16264): in language models, up to 4 epochs of repeated text are nearly as good as new
# text, and more repeats are worth less and less. We know of no such measurement for pairs of images and captions.
MAX_EPOCHS = 4
ROUNDING = 1e-9  # share of the largest weight below which a sum of weights is 0
CONSEQUENCE = "so the difference after training is not the effect of training alone"
AGAIN = "runs_again"  # a folder of runs that a command suggests


@dataclass(frozen=True)
class ControlOutcome:
    """The result of a control in a metric, and the reason."""

    control: Control
    metric: str
    result: Literal["passed", "failed", "inconclusive", "not measured"]
    reason: str

    @property
    def note(self) -> str:
        """The result in a few words."""
        verb = {"inconclusive": "is ", "not measured": "was "}.get(self.result, "")
        return f"{self.control.replace('_', ' ')} {verb}{self.result} in {self.metric}"


def mixed_code(study: Study, evidence: Evidence) -> str:
    """Return a note if the finished runs are of different code and the study does not allow it; otherwise empty."""
    num_codes = len(evidence.codes)
    return "" if study.allow_mixed_code or num_codes < 2 else f"the runs are of {num_codes} codes"


@dataclass(frozen=True, eq=False)
class Reasons:
    """What is wrong with the runs, controls and metrics of a study.

    Attributes:
        sensitivity: by metric. One that is absent, or does not see the rungs of a claim's kinds, does not decide it.
        untrained: by arm, the name of its encoder before training (``expand.untrained_names``); arms that it lacks have
            the baseline's.
        measures_sensitivity: True for a sensitivity study, which must not withhold what it measures.
    """

    study: Study
    evidence: Evidence
    controls: Sequence[ControlOutcome] = ()
    sensitivity: Mapping[str, MetricSensitivity] = field(default_factory=dict)
    untrained: Mapping[str, str] = field(default_factory=dict)
    measures_sensitivity: bool = False

    @cached_property
    def differences(self) -> Differences:
        return Differences(self.study, self.evidence)

    @property
    def of_code(self) -> str:
        return mixed_code(self.study, self.evidence)

    def of_runs(self, arms: Iterable[str]) -> list[str]:
        """Return why nothing is concluded about these arms: the runs are of different code, or runs failed, and those
        that remain are a selection."""
        if mixed := self.of_code:
            return [mixed]
        return [
            f"{self.evidence.num_failed(arm)} of {self.evidence.num_runs(arm)} runs of {self.study.label(arm)} failed"
            for arm in dict.fromkeys(arms)
            if self.evidence.num_failed(arm)
        ]

    def of_arm(self, arm: str) -> list[str]:
        """Return why nothing is concluded from an arm's difference from the baseline."""
        return self.of_runs([arm, self.study.baseline])

    def of_controls(self, metrics: Iterable[str]) -> list[str]:
        """Return a note for each control that did not pass in one of these metrics."""
        wanted = set(metrics)
        return [control.note for control in self.controls if control.metric in wanted and control.result != "passed"]

    @property
    def blind(self) -> str:
        """Why the primary metric decides nothing; empty if it can.

        Of another model than AIMv2 only the positive control says so.
        """
        if self.measures_sensitivity or self.study.base is not None:
            return ""
        return insensitive(self.study.primary_metric, self.sensitivity)

    @property
    def of_primary(self) -> list[str]:
        """Why nothing is concluded in the primary metric; empty if nothing prevents it."""
        if mixed := self.of_code:  # then the controls are inconclusive for this reason alone
            return [mixed]
        return [*self.of_controls([self.study.primary_metric]), *filter(None, [self.blind])]

    def of_claim(self, claim: str, config: Program) -> list[str]:
        """Return why a claim is not judged although its metrics were measured.

        Args:
            config: the baseline's run.
        """
        if mixed := self.of_code:  # then the others follow from it
            return [mixed]
        expectations = self.study.claims[claim]
        metrics = dict.fromkeys(metric for expected in expectations for metric in expected.metrics)
        arms = dict.fromkeys(arm for expected in expectations for arm in expected.arms)
        absent = [arm for arm in arms if not self.evidence.num_runs(arm)]
        return [
            *([f"sweep.arms left out {' and '.join(absent)}"] if absent else []),
            *self.of_runs(arms),
            *self.of_controls(metrics),
            *filter(None, (insensitive(metric, self.sensitivity, CLAIMS[claim].kinds) for metric in metrics)),
            *self._offsets(expectations),
            *self._without_mechanism(claim, config),
        ]

    def of_absent_metrics(self, claim: str, config: Program) -> list[str]:
        """Return why a claim cannot be judged because no run has one of its metrics; empty if each has a run."""
        metrics = dict.fromkeys(metric for expected in self.study.claims[claim] for metric in expected.metrics)
        absent = [f"{metric} is {why}" for metric in metrics if (why := self._why_absent(metric))]
        return [*absent, *self._without_mechanism(claim, config)] if absent else []

    def _why_absent(self, metric: str) -> str:
        is_lacking = len(self.evidence.metrics) and not len(self.evidence.values(metric))
        return self.evidence.why_absent(metric) or ("not among the metrics of these runs" if is_lacking else "")

    def _without_mechanism(self, claim: str, config: Program) -> list[str]:
        """Return what the base run lacks of the claim's mechanism; then it speaks neither for nor against the claim."""
        needs = self.study.needs.get(claim)
        missing = needs(config) if needs else ""
        return [missing] if missing else []

    def _offsets(self, expectations: Iterable[Expected]) -> list[str]:
        """Return a note for each two metrics that an expectation compares and that may differ before training.

        The untrained encoder is the control: on it the difference of the two metrics must be shown to lie within the
        margin.
        """
        notes = []
        for expected in expectations:
            if not isinstance(expected, Expectation) or expected.metric == expected.than_metric:
                continue
            pair = f"{expected.metric} and {expected.than_metric}"
            before = self.differences.of(UNTRAINED, expected.metric, UNTRAINED, expected.than_metric)
            if not before.has_interval:
                notes.append(f"{pair} were not measured on the untrained encoder with two seeds")
                continue
            margin = self.study.margin_of(expected)
            shown = finding(before, margin, lower_is_better=lower_is_better(expected.metric))
            if shown.is_small:
                continue
            if shown.direction == "unclear":
                notes.append(
                    f"{pair} of the untrained encoder differ by {before.text()}, which is not shown to be within the"
                    f" margin of {margin:.2g}, so a difference after training may not come from training; more seeds"
                    " narrow the interval"
                )
            else:
                notes.append(
                    f"{pair} differ before training ({before.text()}), so their difference after training is not the"
                    " effect of training alone"
                )
        return list(dict.fromkeys(notes))

    def before_training(self, expectations: Iterable[Expected]) -> list[str]:
        """Return which deciding comparisons of different encoders there were before training already, or that none was
        measured.

        They withhold no verdict, because the difference after training is real. Comparisons that are shown to lie
        within the margin before training are left out.
        """
        differ, may_differ, unknown = list[str](), list[str](), list[str]()
        for expected in expectations:
            encoders = {arm: self.untrained.get(arm, UNTRAINED) for arm in expected.arms}
            weights = _weights(expected, encoders)
            if len(expected.metrics) > 1 or not is_of_encoder(expected.metric) or not weights:
                continue
            estimate = NO_ESTIMATE
            if not isinstance(expected, Ranges):
                estimate = self.differences.weighted(expected.metric, weights)
            if not estimate.has_interval:
                unknown += [self.study.label(arm) for arm in expected.arms if encoders[arm] != UNTRAINED]
                continue
            margin, is_lower_better = self.study.margin_of(expected), lower_is_better(expected.metric)
            shown = finding(estimate, margin, lower_is_better=is_lower_better)
            if not shown.is_small:
                compared = getattr(expected, "name", "")
                if isinstance(expected, Expectation):
                    compared = f"{self.study.label(expected.arm)} minus {self.study.label(expected.than_arm)}"
                texts = may_differ if shown.direction == "unclear" else differ
                texts.append(f"{expected.metric}, {compared}: {estimate.text()}")
        by_margin, before = "may differ by the margin before training", "differ before training"
        notes = [
            f"the encoders {how} ({'; '.join(texts)}), {CONSEQUENCE}"
            for how, texts in ((before, differ), (by_margin, may_differ))
            if texts
        ]
        labels = ", ".join(dict.fromkeys(unknown))
        return [*notes, *([f"not measured before training, where encoders differ: {labels}"] if unknown else [])]

    def limits(self, arm: str, metric: str = "") -> list[str]:
        """Return what limits a number of an arm, in a few words that stand beside it.

        Args:
            metric: the metric that the number is of; empty for a cost, which has neither controls nor a sensitivity.
        """
        return [*self.limits_of_metric(metric), *self.limits_of_arm(arm, metric)]

    def limits_of_metric(self, metric: str = "") -> list[str]:
        """Return what limits all numbers of a metric: code, controls and sensitivity."""
        if mixed := self.of_code:
            return [mixed]  # the controls are inconclusive for this reason alone
        num_codes = len(self.evidence.codes)
        notes = [f"the runs are of {num_codes} codes, which the sweep allows"] if num_codes > 1 else []
        if metric:
            notes += self.of_controls([metric])
            if not self.measures_sensitivity and insensitive(metric, self.sensitivity):
                is_measured = metric in self.sensitivity
                lacks = f"{metric} is not sensitive at this scale"
                notes.append(lacks if is_measured else f"the sensitivity of {metric} was not measured")
        return notes

    def limits_of_arm(self, arm: str, metric: str = "") -> list[str]:
        """Return what limits the numbers of an arm: failed runs, missing or few seeds, budget, epochs, and a difference
        of its encoder from the baseline's that was there before training."""
        notes = [] if self.of_code else self.of_arm(arm)
        notes += self._seeds(arm, metric)
        if self.is_unequal(arm):
            ratio = self.differences.relative_cost(arm, self.study.equal)
            notes.append(f"unequal: {ratio:.2f} x {COSTS[self.study.equal][0]}")
        of_arm = self.evidence.mixture[self.evidence.mixture["arm"] == arm]
        for source, times in of_arm.groupby("source", sort=False)["epochs"].mean().items():
            if times > MAX_EPOCHS:
                notes.append(f"{times:.3g} epochs of {source}, more than {MAX_EPOCHS}")
        return notes + self._before(arm, metric)

    def is_unequal(self, arm: str) -> bool:
        """True if an arm's cost differs from the baseline's although the study holds it equal."""
        return abs(self.differences.relative_cost(arm, self.study.equal) - 1) >= UNEQUAL  # never true of NaN

    def _seeds(self, arm: str, metric: str) -> list[str]:
        """Say how many seeds have no result yet, or fewer were requested; those of failed runs are named elsewhere."""
        evidence = self.evidence
        requested, of_baseline = evidence.num_runs(arm), evidence.num_runs(self.study.baseline)
        num_finished = int((evidence.runs["arm"] == arm).sum())
        unfinished = requested - evidence.num_failed(arm) - num_finished
        notes = [f"{unfinished} of {requested} seeds missing"] if unfinished else []
        notes += [f"{requested} of the baseline's {of_baseline} seeds"] if 0 < requested < of_baseline else []
        num_seeds = len(evidence.value(metric, arm).dropna()) if metric else num_finished
        return [*notes, "one seed, so no interval"] if num_seeds == 1 else notes

    def _before(self, arm: str, metric: str) -> list[str]:
        """Return the difference before training, in metrics that decide and what a fresh reader reads."""
        untrained = self.untrained.get(arm, UNTRAINED)
        is_compared = metric in (*self.study.deciding_metrics, READER)
        if untrained == UNTRAINED or not is_compared or not is_of_encoder(metric):
            return []
        before: Estimate = self.differences.of(untrained, metric, UNTRAINED, metric)
        if not before.n:
            return ["not measured before training"]
        return [f"before training {before.text()} from the baseline already"] if before.excludes_zero else []


def _weights(expected: Expected, encoders: Mapping[str, str]) -> dict[str, float]:
    """Return the weights that the comparison gives the encoders before training, without those of weight 0.

    Args:
        encoders: the name of each arm's encoder before training.
    """
    if isinstance(expected, Ranges):  # no weighted sum: each encoder counts where there are several
        several = set(encoders.values())
        return dict.fromkeys(several, 1.0) if len(several) > 1 else {}
    of_arms = expected.weights if isinstance(expected, Combination) else {expected.than_arm: -1.0, expected.arm: 1.0}
    weights = dict.fromkeys(encoders.values(), 0.0)
    for arm, weight in of_arms.items():
        weights[encoders[arm]] += weight
    largest = max(map(abs, of_arms.values()))
    return {name: weight for name, weight in weights.items() if abs(weight) > ROUNDING * largest}


class Lacking(NamedTuple):
    """A metric that finished runs lack though they could have it, the fact as a clause, and what measures it."""

    metric: str
    text: str
    command: str


def lacking(request: Request, evidence: Evidence) -> list[Lacking]:
    """Return which finished runs lack the primary metric, or one that was measured on others after training.

    Runs that cannot have a metric, whose objective or data it does not apply to, do not lack it. Nor does any run lack
    a metric that no run has, such as one whose function fails, unless the study is decided by it.
    """
    as_typed = {metric.name: metric.typed for metric in request.metrics}
    finished, primary = evidence.runs_of(evidence.runs), request.study.primary_metric
    metrics = []
    for metric in dict.fromkeys([primary, *as_typed]):
        answered = evidence.answered(metric)
        runs = [run for run in finished if run not in answered]
        if runs and (answered or metric == primary):
            verb = "lacks" if len(finished) == 1 else "lack"
            text = f"{len(runs)} of {count(len(finished), 'finished run')} {verb} {metric}"
            words = ["evaluate", request.folder, f"metric={as_typed.get(metric, f'FILE.py:{metric}')}"]
            if is_ours(metric):  # newer code has it
                words = ["measure", request.folder, f"to={AGAIN}"]
            metrics.append(Lacking(metric, text, shlex.join(["python", "sweeps/manage.py", *words])))
    return metrics
