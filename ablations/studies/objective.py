from ablations.design import Arm, one_factor, switch_objective
from ablations.expectations import PROBE, expect
from ablations.study import Study

BIDIRECTIONAL = {"model.encoder.attention": "bidirectional"}
PREFIX = {"model.encoder.attention": "prefix"}

STUDY = Study(
    slug="objective",
    question="Which objective gives the best frozen encoder at equal samples (or, with sweep.equal=flops, at equal"
    " training FLOPs)?",
    source="AIMv2 Tables 9a and 9b, at equal samples and unequal compute",
    design=one_factor(
        aimv2=Arm(label="AIMv2, both losses"),
        caption_prefix=switch_objective("captioning, prefix", "caption", **PREFIX),
        caption_bidirectional=switch_objective("captioning, bidirectional", "caption", **BIDIRECTIONAL),
        image_only=switch_objective("pixels only (AIM v1)", "image_only", **PREFIX),
        cappa=switch_objective("CapPa", "cappa", **BIDIRECTIONAL),
        clip=switch_objective("CLIP", "clip", **BIDIRECTIONAL),
        siglip=switch_objective("SigLIP", "siglip", **BIDIRECTIONAL),
    ),
    baseline="aimv2",
    primary_metric=PROBE,
    equivalence_margin=0.01,
    expected=dict.fromkeys(("caption_bidirectional", "image_only", "cappa", "clip"), "worse"),
    claims={
        "both-losses-beat-text-only": expect("aimv2", "better", than="caption_prefix", metric=PROBE),
        "both-losses-beat-image-only": expect("image_only", "far worse", than="aimv2", metric=PROBE),
        "prefix-beats-bidirectional-for-captioning": expect(
            "caption_prefix", "better", than="caption_bidirectional", metric=(PROBE, "caption_loss")
        ),
        "beats-clip-same-data": expect("clip", "worse", than="aimv2", metric=PROBE),
        "beats-cappa-same-data": expect("cappa", "worse", than="aimv2", metric=PROBE),
    },
)
