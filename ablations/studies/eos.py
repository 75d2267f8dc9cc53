from aimv2.ablations.design import one_factor, setting
from aimv2.ablations.expectations import READER
from aimv2.ablations.study import Study

STUDY = Study(
    slug="eos",
    question="Does it matter for the encoder whether the end of a caption is a training target?",
    source="AIMv2 Figure 1 shows the end of text as a target; the released configuration ignores it. The decoder's"
    " task changes, so the encoder is compared",
    design=one_factor(
        ignored=setting("end of text ignored", {"objective.supervise_eos": False}),
        supervised=setting("end of text supervised", {"objective.supervise_eos": True}),
    ),
    baseline="ignored",
    primary_metric=READER,
    compares_curves=False,
    expected={"supervised": "equal"},
)
