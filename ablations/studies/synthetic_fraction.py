"""Which fraction of captions should be synthetic?"""

from ablations.design import Arm, ladder, setting
from ablations.expectations import PROBE, expect
from ablations.study import Study

FRACTIONS = {
    "synthetic_000": 0.0,
    "synthetic_033": 0.33,
    "synthetic_050": 0.5,
    "synthetic_067": 0.67,
    "synthetic_100": 1.0,
}

STUDY = Study(
    slug="synthetic_fraction",
    question="Does mixing synthetic captions with alt-text give a better encoder than either alone?",
    source="AIMv2 section 2.3 and Table 2 (33 % synthetic), never ablated; arXiv 2410.02740 supports it for others."
    " Our descriptive captions stand in for synthetic ones. Caption losses are not comparable, as arms train on"
    " different captions",
    design=ladder(
        {
            name: Arm(label=f"{fraction:.0%} descriptive", change=setting({"data.descriptive_fraction": fraction}))
            for name, fraction in FRACTIONS.items()
        }
    ),
    baseline="synthetic_033",
    primary_metric=PROBE,
    equivalence_margin=0.01,
    expected={"synthetic_000": "worse", "synthetic_100": "worse"},
    claims={
        "synthetic-captions": expect(("synthetic_000", "synthetic_100"), "worse", than="synthetic_033", metric=PROBE),
    },
)
