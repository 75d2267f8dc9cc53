"""Should the end of a caption be a training target?"""

from ablations.design import Arm, one_factor, setting
from ablations.expectations import PROBE
from ablations.study import Study

STUDY = Study(
    slug="eos",
    question="Does it matter for the encoder whether the end of a caption is a training target?",
    source="AIMv2 Figure 1 shows the end of text as a target; the released configuration ignores it. Caption losses"
    " are not comparable, as they average over different tokens",
    design=one_factor(
        {
            "ignored": Arm(label="end of text ignored", change=setting({"objective.supervise_eos": False})),
            "supervised": Arm(label="end of text supervised", change=setting({"objective.supervise_eos": True})),
        }
    ),
    baseline="ignored",
    primary_metric=PROBE,
    equivalence_margin=0.01,
    expected={"supervised": "equal"},
)
