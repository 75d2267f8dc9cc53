"""The command line's view of a study."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, NonNegativeInt, StringConstraints, TypeAdapter, ValidationError

from aimv2.ablations.expectations import Expectation
from aimv2.ablations.study import CONTROLS, Study, StudyValues
from aimv2.base.errors import UsageError, unknown
from aimv2.config.arguments import explain
from aimv2.config.data_config import CHECKED

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
        """Return the study with these values. Its design and seeds stay; cells say which of them run.

        Raises:
            UsageError: the baseline or a claim names an unknown arm, or something is expected of the baseline.
        """
        expected = {arm: relation for arm, relation in self.expected.items() if relation is not None}
        if (self.baseline, self.primary_metric) != (study.baseline, study.primary_metric):
            # The study's own expectations hold for its own baseline and metric only.
            expected = {arm: relation for arm, relation in expected.items() if relation != study.expected.get(arm)}
        if self.baseline in expected:
            raise UsageError(f"sweep.expected.{self.baseline}: it is the baseline, with which the others are compared")
        claims = {claim: expectations for claim, expectations in self.claims.items() if expectations}
        for claim, expectations in claims.items():
            for one in expectations:
                possible = [*study.arms, *CONTROLS] if isinstance(one, Expectation) else list(study.arms)
                if wrong := [arm for arm in one.arms if arm not in possible]:
                    raise unknown(f"arm of sweep.claims.{claim}", wrong[0], possible)
        values = {name: getattr(self, name) for name in SHARED}
        return dataclasses.replace(study, **values | {"seeds": study.seeds, "claims": claims, "expected": expected})


def overrides_from(values: Mapping[str, Any]) -> StudyOverrides:
    """Return the overrides with these values.

    Raises:
        UsageError: a value is not allowed; the message starts with its key, ``sweep.<field>``.
    """
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
