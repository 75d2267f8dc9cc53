"""Dense captions in the place of synthetic ones, and short ones in that of alt-text.

A short caption names one object, at times wrongly or among noise; a dense one names all objects with their inks, and
their places or relations. Dense captions name the labels of ``probe_object``, so ``probe_digits`` decides: no caption
names a digit. Sources of one's own need captions of both kinds, and a labelled set of ``evaluation.sets`` decides.
"""

from dataclasses import replace

from aimv2.ablations.design import ladder, setting
from aimv2.ablations.expectations import DIGITS, expect
from aimv2.ablations.study import Study
from aimv2.base.errors import UsageError
from aimv2.config.data_config import source_name
from aimv2.config.run_config import RunConfig
from aimv2.datasets.description import read_source

CAPTIONS = "AIMv2 section 2.3 and Table 2 (33 % synthetic), never ablated; arXiv 2410.02740 supports it for others."
LOSSES = "Caption losses are not comparable, as arms train on different captions"


def fit(study: Study, base: RunConfig) -> Study:
    """Return the study in the words of the base run's sources."""
    data = base.data
    if data.kind != "files":
        return study
    trained = [
        source for source, weight in zip(data.sources, data.weights or [1] * len(data.sources), strict=True) if weight
    ]
    kinds = {source_name(source): read_source(source).kinds for source in trained}
    single = {name: having[0] for name, having in kinds.items() if len(having) == 1}
    having = ", ".join(f"{name} has {kind} captions only" for name, kind in single.items())
    if len(single) == len(kinds):
        raise UsageError(
            f"sweep=synthetic_fraction varies the share of dense captions, and {having}; a description with both"
            " short: and dense: is needed"
        )
    notes = [f"{having}; the shares of dense captions are those of the other sources."] if single else []
    if not base.evaluation.sets:
        notes.append("Digits say little about pictures of other things; evaluation.sets=[FILE.yaml] would tell more.")
    return replace(study, source=f"{CAPTIONS} {LOSSES}", notes=tuple(notes))


SYNTHETIC_FRACTION = Study(
    slug="synthetic_fraction",
    question="Does mixing synthetic captions with alt-text give a better encoder than either alone?",
    source=f"{CAPTIONS} Our dense captions stand in for synthetic ones. They name the labels of probe_object, so digits"
    f" are probed, which no caption names. {LOSSES}",
    design=ladder(
        **{
            f"synthetic_{percent:03}": setting(
                f"{percent} % dense", {"data.dense_fraction": percent / 100, "data.dense_fractions": None}
            )
            for percent in (0, 33, 50, 67, 100)
        }
    ),
    baseline="synthetic_033",
    primary_metric=DIGITS,
    compares_curves=False,
    fit=fit,
    expected={"synthetic_000": "worse", "synthetic_100": "worse"},
    claims={
        "synthetic-captions": expect(
            ("synthetic_000", "synthetic_100"),
            "worse",
            than="synthetic_033",
            metric=DIGITS,
            why="section 2.3; no number is given",
        )
    },
)
