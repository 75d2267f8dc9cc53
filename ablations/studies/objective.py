"""AIMv2 and its rivals, all with the recipe's learning rate. "Rates of the rivals" in docs/laptop.md says why."""

from aimv2.ablations.design import Arm, one_factor, switch_objective
from aimv2.ablations.expectations import CONTENT, READER, expect
from aimv2.ablations.study import Study

STUDY = Study(
    slug="objective",
    question="Which objective gives the best frozen encoder at equal samples (or, with sweep.equal=flops, at equal"
    " training FLOPs)?",
    source="AIMv2 Tables 9a and 9b, at equal samples and unequal compute; CLIP and SigLIP also with twice the batch, as"
    " CLIP in Table 9b. The paper does not say whether it tuned the rates of the others; here all have AIMv2's"
    " (rates were searched at scale laptop: docs/laptop.md)",
    design=one_factor(
        aimv2=Arm(label="AIMv2, both losses"),
        caption_prefix=switch_objective("captioning, prefix", "caption", "prefix"),
        caption_bidirectional=switch_objective("captioning, bidirectional", "caption", "bidirectional"),
        image_only=switch_objective("pixels only (AIM v1)", "image_only", "prefix"),
        cappa=switch_objective("CapPa", "cappa", "bidirectional"),
        clip=switch_objective("CLIP", "clip", "bidirectional"),
        clip_batch_200=switch_objective("CLIP, twice the batch", "clip", "bidirectional", batch=2),
        siglip=switch_objective("SigLIP", "siglip", "bidirectional"),
        siglip_batch_200=switch_objective("SigLIP, twice the batch", "siglip", "bidirectional", batch=2),
    ),
    baseline="aimv2",
    primary_metric=READER,
    expected=dict.fromkeys(("caption_bidirectional", "image_only", "cappa", "clip", "clip_batch_200"), "worse"),
    claims={
        "both-losses-beat-text-only": expect(
            "aimv2", "better", than="caption_prefix", why="Table 9a, IN-1k: 85.4 to 85.6"
        ),
        "both-losses-beat-image-only": expect(
            "image_only", "far worse", than="aimv2", why="Table 9a, IN-1k: 85.6 to 72.0; the margin is a point"
        ),
        "prefix-beats-bidirectional-for-captioning": expect(
            "caption_prefix", "better", than="caption_bidirectional", why="Table 9a, IN-1k: 85.1 to 85.4"
        )
        + expect(
            "caption_prefix",
            "better",
            than="caption_bidirectional",
            metric=CONTENT,
            why="in place of VQAv2 (76.2 to 76.8) and TextVQA (34.4 to 36.5) of Table 9a",
        ),
        "beats-clip-same-data": expect("clip", "worse", than="aimv2", why="Table 9b, IN-1k: 85.6 to 84.6")
        + expect(
            "clip_batch_200",
            "worse",
            than="aimv2",
            why="Table 9b, IN-1k: 85.6 to 85.2, with batches of 16k instead of 8k",
        ),
        "beats-cappa-same-data": expect("cappa", "worse", than="aimv2", why="Table 9b, IN-1k: 85.6 to 84.7"),
    },
)
