"""Controls, why a study draws no verdict, and what qualifies the verdicts and limits the numbers that it has.

A verdict is withheld if runs are of different code or failed, a control did not pass, the metric is not shown to be
sensitive, arms or metrics are absent, or the runs lack the claim's mechanism. What there was before training qualifies
a verdict; seeds, budget and epochs limit a number.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from aimv2.ablations.expectations import READER, Combination, Expectation, Expected, Ranges
from aimv2.ablations.study import UNEQUAL, UNTRAINED, Control, Study
from aimv2.analysis.evidence.tables import Evidence
from aimv2.analysis.inference.intervals import LEVEL, NO_ESTIMATE, NOT_MEASURED, Estimate
from aimv2.analysis.judgement.differences import COSTS, Differences
from aimv2.analysis.judgement.rules import NULL_LEVEL, RULES_SINCE, Bounds, finding
from aimv2.analysis.judgement.sensitivity import MetricSensitivity, insensitive, kinds_of
from aimv2.config.program import Program
from aimv2.definitions.metrics import is_of_encoder, lower_is_better
from aimv2.definitions.objectives import RIVALS

# Muennighoff et al. (arXiv 2305.16264): in language models, up to 4 epochs of repeated text are nearly as good as new
# text, and more repeats are worth less and less. We know of no such measurement for pairs of images and captions.
MAX_EPOCHS = 4
RECALL = "image_to_text_recall_1"  # among ``evaluation.num_pairs`` held-out pairs, 512 at laptop
RECALL_FLOOR = 0.25  # of a rival that retrieves
ROUNDING = 1e-9  # share of the largest weight below which a sum of weights is 0
Result = Literal["passed", "failed", "inconclusive", "not measured"]
REQUIRED: tuple[Control, ...] = ("null_control", "positive_control")


@dataclass(frozen=True)
class ControlOutcome:
    """The result of a control in a metric, and the reason."""

    control: Control
    metric: str
    result: Result
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
    """What is wrong with the runs, controls and metrics of a study."""

    study: Study
    evidence: Evidence
    controls: Sequence[ControlOutcome] = ()
    # by metric. One that is absent, or does not see the rungs of a claim's kinds, does not decide it
    sensitivity: Mapping[str, MetricSensitivity] = field(default_factory=dict)
    # by arm, its encoder before training (``expand.untrained_names``) if it is not the baseline's
    untrained: Mapping[str, str] = field(default_factory=dict)
    objectives: Mapping[str, str] = field(default_factory=dict)  # by arm
    measures_sensitivity: bool = False  # True for a sensitivity study, which must not withhold what it measures

    @cached_property
    def differences(self) -> Differences:
        return Differences(self.study, self.evidence, self.rivals)

    @property
    def rivals(self) -> list[str]:
        """The arms that train another model's objective, which need not spread as AIMv2's do."""
        return [arm for arm, name in self.objectives.items() if name in RIVALS]

    @cached_property
    def without_a_seed(self) -> Mapping[int, Differences]:
        """The differences without each seed of the baseline."""
        metrics = self.evidence.metrics
        seeds = sorted(set(metrics.loc[metrics["arm"] == self.study.baseline, "seed"]))
        return {
            seed: Differences(self.study, replace(self.evidence, metrics=metrics[metrics["seed"] != seed]), self.rivals)
            for seed in seeds
        }

    def are_older_than_rules(self, claim: str) -> bool:
        """True if a run of the claim's arms began before the rules were as they are; older runs do not say when."""
        runs = self.evidence.runs
        of_claim = runs[runs["arm"].isin({arm for expected in self.study.claims[claim] for arm in expected.arms})]
        return "began" not in runs or bool((of_claim["began"].fillna("") < RULES_SINCE).any())

    @property
    def of_code(self) -> str:
        return mixed_code(self.study, self.evidence)

    def of_runs(self, arms: Iterable[str]) -> list[str]:
        """Return why nothing is concluded about these arms; where runs failed, those that remain are a selection."""
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
        """Why the primary metric decides nothing; empty if it can. Of another model the positive control says so."""
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
        """Return why a claim is not judged although its metrics were measured; ``config`` is the baseline's run."""
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
            *filter(None, (insensitive(metric, self.sensitivity, kinds_of(claim, metric)) for metric in metrics)),
            *self._incompetent(expectations),
            *self._offsets(expectations),
            *self._without_mechanism(claim, config),
        ]

    def of_absent_metrics(self, claim: str, config: Program) -> list[str]:
        """Return which metrics of a claim no run has, so that it cannot be judged."""
        metrics = dict.fromkeys(metric for expected in self.study.claims[claim] for metric in expected.metrics)
        absent = []
        for metric in metrics:
            is_lacking = len(self.evidence.metrics) and not len(self.evidence.values(metric))
            why = self.evidence.why_absent(metric) or ("not among the metrics of these runs" if is_lacking else "")
            absent += [f"{metric} is {why}"] if why else []
        return [*absent, *self._without_mechanism(claim, config)] if absent else []

    def _without_mechanism(self, claim: str, config: Program) -> list[str]:
        """Return what the base run lacks of the claim's mechanism; then it speaks neither for nor against the claim."""
        needs = self.study.needs.get(claim)
        return list(filter(None, [needs(config)])) if needs else []

    def _incompetent(self, expectations: Iterable[Expected]) -> list[str]:
        """Return why rivals are none: each must be better than AIMv2 on captions of other images, and than its own
        encoder before training by the margin, in the metric that decides, and have learned its own task."""
        notes, metrics = list[str](), self.evidence.metrics
        compared = {(arm, metric) for one in expectations for arm in one.arms for metric in one.metrics}
        for arm, metric in sorted(compared):
            if arm not in self.rivals or not is_of_encoder(metric):
                continue
            lacks = list[str]()
            untrained, is_lower_better = self.untrained.get(arm, UNTRAINED), lower_is_better(metric)
            others = self.differences.of(arm, metric, "positive_control", metric)
            if finding(others, 0.0, lower_is_better=is_lower_better).direction != "better":
                lacks.append(f"is not better than AIMv2 on captions of other images ({others.text()})")
            learned = self.differences.of(arm, metric, untrained, metric)
            if not Bounds.of(learned, lower_is_better=is_lower_better).low > self.study.margin(metric):
                lacks.append(f"is not better than untrained by the margin ({learned.text()})")
            if RECALL in set(metrics.loc[metrics["arm"] == arm, "metric"]):
                recall = self.evidence.mean(RECALL, arm)
                if not recall.low > RECALL_FLOOR:
                    found = recall.text(".2f")
                    lacks.append(f"finds {found} of the captions of held-out images, not over {RECALL_FLOOR}")
            if lacks:
                notes.append(f"{self.study.label(arm)} is no competent rival in {metric}: it {' and '.join(lacks)}")
        return notes

    def _offsets(self, expectations: Iterable[Expected]) -> list[str]:
        """Return a note for each two metrics that an expectation compares and that may differ before training."""
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
        """Return which comparisons of different encoders exceed the margin, or may, before training already.

        They withhold no verdict, because the difference after training is real.
        """
        unknown, texts = list[str](), {"differ": list[str](), "may differ by the margin": list[str]()}
        for expected in expectations:
            encoders = {arm: self.untrained.get(arm, UNTRAINED) for arm in expected.arms}
            weights = _weights(expected, encoders)
            if len(expected.metrics) > 1 or not is_of_encoder(expected.metric) or not weights:
                continue
            is_range = isinstance(expected, Ranges)
            estimate = NO_ESTIMATE if is_range else self.differences.weighted(expected.metric, weights)
            if not estimate.has_interval:
                unknown += [self.study.label(arm) for arm in expected.arms if encoders[arm] != UNTRAINED]
                continue
            margin = self.study.margin_of(expected)
            shown = finding(estimate, margin, lower_is_better=lower_is_better(expected.metric))
            if not shown.is_small:
                compared = getattr(expected, "name", "")
                if isinstance(expected, Expectation):
                    compared = f"{self.study.label(expected.arm)} minus {self.study.label(expected.than_arm)}"
                how = "may differ by the margin" if shown.direction == "unclear" else "differ"
                texts[how].append(f"{expected.metric}, {compared}: {estimate.text()}")
        notes = [
            f"the encoders {how} before training ({'; '.join(some)}), so the difference after training is not the"
            " effect of training alone"
            for how, some in texts.items()
            if some
        ]
        labels = ", ".join(dict.fromkeys(unknown))
        return [*notes, *([f"not measured before training, where encoders differ: {labels}"] if unknown else [])]

    def limits(self, arm: str, metric: str = "") -> list[str]:
        """Return what limits a number of an arm; a cost, with no metric, has neither controls nor a sensitivity."""
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
                is_measured, lacks = metric in self.sensitivity, f"{metric} is not sensitive at this scale"
                notes.append(lacks if is_measured else f"the sensitivity of {metric} was not measured")
        return notes

    def limits_of_arm(self, arm: str, metric: str = "") -> list[str]:
        """Return what limits an arm: failed runs, missing or few seeds, budget, epochs, its encoder before training."""
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


def check_controls(study: Study, evidence: Evidence) -> list[ControlOutcome]:
    """Compare both controls with the baseline in every metric that decides, but those that the data cannot have. The
    confirmation of a search needs none of its own: the sensitivity study, without which nothing is concluded, says what
    its primary metric can detect."""
    reasons = Reasons(study, evidence)
    return [
        ControlOutcome(control, metric, *_check(reasons, control, metric))
        for control in (study.controls if study.is_search else REQUIRED)
        for metric in study.deciding_metrics
        if not evidence.why_absent(metric)
    ]


def _check(reasons: Reasons, control: Control, metric: str) -> tuple[Result, str]:
    study, is_null = reasons.study, control == "null_control"
    if control not in study.controls:
        return NOT_MEASURED, "The sweep was launched without it."
    if notes := reasons.of_arm(control):
        return "inconclusive", f"{'; '.join(notes)}."
    # The null control has other seeds than the baseline, so the two means are compared unpaired (Welch).
    level = NULL_LEVEL if is_null else LEVEL
    estimate = reasons.differences.separately(metric, control, level, covers_items=not is_null)
    if not estimate.n:
        return NOT_MEASURED, "It was not measured with seeds of the baseline."
    if not estimate.has_interval:
        return "inconclusive", "There are too few seeds."
    shown = f"{estimate.text()}, {estimate.basis}"
    if is_null and estimate.excludes_zero:
        return "failed", f"Other seeds alone differ: {shown}. Differences between arms are not reliable."
    if is_null:
        return "passed", f"Other seeds do not differ detectably from the baseline: {shown}."
    observed = finding(estimate, study.margin(metric), lower_is_better=lower_is_better(metric))
    shuffled = "shuffled captions" if study.base is None else "shuffled targets"
    if observed.direction == "worse":
        return "passed", f"{shuffled.capitalize()} are harmful, and the study detects it: {shown}."
    if observed.direction == "better":
        return "failed", f"The effect is on the wrong side: with {shuffled} the metric is better: {shown}."
    if observed.is_small:
        return "failed", f"{shuffled.capitalize()} make no difference larger than the margin: {shown}."
    return "inconclusive", f"The study does not detect that {shuffled} are harmful: {shown}."


def _weights(expected: Expected, encoders: Mapping[str, str]) -> dict[str, float]:
    """Return the weights, but 0, that the comparison gives the encoders before training; ``encoders`` are by arm."""
    if isinstance(expected, Ranges):  # no weighted sum: each encoder counts where there are several
        several = set(encoders.values())
        return dict.fromkeys(several, 1.0) if len(several) > 1 else {}
    of_arms = expected.weights if isinstance(expected, Combination) else {expected.than_arm: -1.0, expected.arm: 1.0}
    weights = dict.fromkeys(encoders.values(), 0.0)
    for arm, weight in of_arms.items():
        weights[encoders[arm]] += weight
    largest = max(map(abs, of_arms.values()))
    return {name: weight for name, weight in weights.items() if abs(weight) > ROUNDING * largest}
