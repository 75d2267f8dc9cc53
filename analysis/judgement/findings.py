"""All that a report concludes from a study's runs, before it is put in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ablations.expand import Cell, with_actual_ratios
from ablations.request import Request
from ablations.study import UNTRAINED, Study
from aimv2.config.run_config import RunConfig
from analysis.evidence.load import Evidence
from analysis.evidence.searches import Search
from analysis.inference.looks import Look
from analysis.judgement.compare import Comparison, Differences, mixed_code, primary_comparisons
from analysis.judgement.controls import ControlOutcome, check_controls, withholding
from analysis.judgement.ladder import climb
from analysis.judgement.sensitivity import SLUG, Ladder, MetricSensitivity, insensitive, sensitivity_of
from analysis.judgement.verdicts import Verdict, verdicts


@dataclass(frozen=True, eq=False)
class Findings:
    """A study, its runs, and what they show.

    Attributes:
        study: with the actual values in the labels of arms that miss their ratio.
        request: the launches of the study.
        ladder: what a sensitivity study found; None for other studies.
        sensitivity: by metric.
        comparisons: each requested arm but the baseline, in the primary metric.
        verdicts: by claim.
        search: that whose winner is compared with the baseline; None for other studies.
    """

    study: Study
    request: Request
    evidence: Evidence
    look: Look
    ladder: Ladder | None
    sensitivity: Mapping[str, MetricSensitivity]
    comparisons: Mapping[str, Comparison]
    controls: Sequence[ControlOutcome]
    verdicts: Mapping[str, Verdict]
    search: Search | None = None

    @property
    def cells(self) -> Sequence[Cell]:
        return self.request.cells

    @property
    def config(self) -> RunConfig:
        """The baseline's run, of any seed."""
        return baseline_of(self.request)

    @property
    def metric(self) -> str:
        return self.study.primary_metric

    @cached_property
    def unit(self) -> str:
        """The unit of the primary metric; empty if it was not measured."""
        return self.evidence.unit(self.metric)

    @property
    def compares(self) -> bool:
        """True if the study has an arm or a control beside the baseline; a search that the baseline won has none."""
        return len(self.study.conditions) > 1

    @cached_property
    def differences(self) -> Differences:
        return Differences(self.study, self.evidence)

    @property
    def blind(self) -> str:
        """Why the primary metric decides nothing; empty if it can.

        The sensitivity study measures what the metric can see, and it must not withhold that.
        """
        return "" if self.ladder else insensitive(self.metric, self.sensitivity, self.config.scale)

    @property
    def withheld(self) -> list[str]:
        """Why nothing is concluded in the primary metric; empty if nothing prevents it, or if nothing is compared."""
        if not self.compares:
            return []
        if mixed := mixed_code(self.study, self.evidence):  # then the controls are inconclusive for this reason alone
            return [mixed]
        return [*withholding(self.controls, [self.metric]), *filter(None, [self.blind])]

    def present(self, arms: Sequence[str]) -> list[str]:
        """Return which of all arms, controls and the untrained encoder are among these, in the order of reports."""
        return [arm for arm in [*self.study.conditions, UNTRAINED] if arm in set(arms)]


def judge(
    request: Request,
    evidence: Evidence,
    this_look: Look,
    sensitivity: Mapping[str, MetricSensitivity],
    search: Search | None = None,
) -> Findings:
    """Return what the runs of a request show.

    Args:
        sensitivity: what was measured before; a sensitivity study measures its own.
        search: that whose winner the runs confirm.
    """
    study, config, ladder = with_actual_ratios(request.study, request.cells), baseline_of(request), None
    if study.slug == SLUG and not study.is_search:
        ladder = climb(study, evidence, config)
        sensitivity = sensitivity_of(ladder)
    controls = check_controls(study, evidence)
    return Findings(
        study=study,
        request=request,
        evidence=evidence,
        look=this_look,
        ladder=ladder,
        sensitivity=sensitivity,
        comparisons=primary_comparisons(study, request.cells, evidence, this_look.level),
        controls=controls,
        verdicts=verdicts(
            study, evidence, controls=controls, sensitivity=sensitivity, scale=config.scale, level=this_look.level
        ),
        search=search,
    )


def baseline_of(request: Request) -> RunConfig:
    """Return the baseline's run, of any seed."""
    return next(cell.config for cell in request.cells if cell.arm == request.study.baseline)
