from ablations.design import Arm, one_factor, setting
from ablations.study import Study

STUDY = Study(
    slug="loss_form",
    question="Does the form of the pixel loss matter: mean or sum, per batch or per image, standardised or raw?",
    source="AIMv2 section 2.1 has a sum over a patch's values and a mean over all patches. The released code has a"
    " mean over values and over the batch's scored patches, with the same alpha",
    design=one_factor(
        released=Arm(label="as released: mean, per batch, standardised"),
        sum=setting("sum over a patch's values", {"objective.pixel_values": "sum"}),
        image=setting("per image, over all I", {"objective.pixel_patches": "image"}),
        image_mean=setting("per image, over its scored patches", {"objective.pixel_patches": "image_mean"}),
        raw=setting("raw targets", {"objective.pixel_targets": "raw"}),
    ),
    baseline="released",
    primary_metric="caption_loss",
    equivalence_margin=0.02,
    expected={"sum": "worse", "image_mean": "equal"},
)
