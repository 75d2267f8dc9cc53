"""Dense captions in the place of synthetic ones, and short ones in that of alt-text.

A short caption names one object, at times wrongly or among noise; a dense one names all objects with their inks, and
their places or relations. Arms therefore differ in how much they are told, as in the paper. Dense captions name the
labels of ``probe_object``, so that probe would favour the arms that read more of them. No caption names a digit:
``probe_digits`` decides. Controls and the sensitivity study say whether it sees anything at a scale.
"""

from ablations.design import ladder, setting
from ablations.expectations import DIGITS, expect
from ablations.study import Study

STUDY = Study(
    slug="synthetic_fraction",
    question="Does mixing synthetic captions with alt-text give a better encoder than either alone?",
    source="AIMv2 section 2.3 and Table 2 (33 % synthetic), never ablated; arXiv 2410.02740 supports it for others."
    " Our dense captions stand in for synthetic ones. They name the labels of probe_object, so digits are probed, which"
    " no caption names. Caption losses are not comparable, as arms train on different captions",
    design=ladder(
        **{
            f"synthetic_{percent:03}": setting(f"{percent} % dense", {"data.dense_fraction": percent / 100})
            for percent in (0, 33, 50, 67, 100)
        }
    ),
    baseline="synthetic_033",
    primary_metric=DIGITS,
    equivalence_margin=0.01,
    expected={"synthetic_000": "worse", "synthetic_100": "worse"},
    claims={
        "synthetic-captions": expect(
            ("synthetic_000", "synthetic_100"),
            "worse",
            than="synthetic_033",
            metric=DIGITS,
            why="section 2.3; no number is given",
        ),
    },
)
