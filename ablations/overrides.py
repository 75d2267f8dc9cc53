"""The command line's view of a study."""

import dataclasses
from typing import Annotated, Literal

import pydantic
from pydantic import BeforeValidator, Field

from ablations.budget import Equal
from ablations.expectations import Expectation, default_margin
from ablations.study import CONTROLS, Control, Study
from aimv2.config.run_config import CHECKED
from aimv2.errors import UsageError, unknown


def _seeds(value: object) -> object:
    """A number of seeds as the seeds from 0 on."""
    if isinstance(value, list | tuple):
        return value
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{value} must be a number of seeds, at least 1, or a list of seeds")
    return tuple(range(value))


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=CHECKED)
class StudyOverrides:
    """What a launch may say of a study, ``sweep.<field>`` on the command line; the fields are the study's own."""

    slug: str
    question: str
    source: str
    arms: tuple[str, ...]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_seeds)]
    baseline: str
    primary_metric: str
    equivalence_margin: float = Field(ge=0)
    pairing: Literal["seed", "none"]
    equal: Equal
    controls: tuple[Control, ...]
    expected: dict[str, Literal["better", "worse", "equal"] | None]  # of every arm, so that each can be said
    claims: dict[str, tuple[Expectation, ...]]

    def apply(self, study: Study) -> Study:
        """The study as it is asked for; which arms and seeds run, its cells say.

        Raises:
            UsageError: the baseline is no arm, or something is expected of an arm that cannot be.
        """
        if self.baseline not in study.arms:
            raise unknown("sweep.baseline", self.baseline, study.arms)
        expected = {arm: word for arm, word in self.expected.items() if word is not None}
        if (self.baseline, self.primary_metric) != (study.baseline, study.primary_metric):
            # What the study itself expects was said of its own.
            expected = {arm: word for arm, word in expected.items() if word != study.expected.get(arm)}
        if self.baseline in expected:
            raise UsageError(f"sweep.expected.{self.baseline}: it is the baseline, with which the others are compared")
        claims = {claim: seen for claim, seen in self.claims.items() if seen}
        for claim, seen in claims.items():
            for arm in (name for one in seen for name in (one.arm, one.than_arm)):
                if arm not in (possible := [*study.arms, *CONTROLS]):
                    raise unknown(f"arm of sweep.claims.{claim}", arm, possible)
        own = {field.name for field in dataclasses.fields(self)} - {"slug", "arms", "seeds", "expected", "claims"}
        changes = {name: getattr(self, name) for name in own}
        if self.primary_metric != study.primary_metric and self.equivalence_margin == study.equivalence_margin:
            changes["equivalence_margin"] = default_margin(self.primary_metric)  # the study's has another unit
        return dataclasses.replace(study, **changes, expected=expected, claims=claims)


def study_overrides(study: Study) -> StudyOverrides:
    """What a study asks for by itself."""
    return StudyOverrides(
        slug=study.slug,
        question=study.question,
        source=study.source,
        arms=tuple(study.arms),
        seeds=study.seeds,
        baseline=study.baseline,
        primary_metric=study.primary_metric,
        equivalence_margin=study.equivalence_margin,
        pairing=study.pairing,
        equal=study.equal,
        controls=study.controls,
        expected={arm: study.expected.get(arm) for arm in study.arms},
        claims=dict(study.claims),
    )
