"""What is predicted: objectives, and the forms of the losses."""

from aimv2.ablations.design import Arm, one_factor, setting, switch_objective
from aimv2.ablations.expectations import READER, expect
from aimv2.ablations.study import Study
from aimv2.config.program import replaced
from aimv2.config.run_config import RunConfig
from aimv2.definitions.objectives import objective

# AIMv2 and its rivals, all with the recipe's learning rate. "Rates of the rivals" in docs/laptop.md says why.
OBJECTIVE = Study(
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
        "both-losses-beat-image-only": expect(
            "image_only", "far worse", than="aimv2", why="Table 9a, IN-1k: 85.6 to 72.0; the margin is a point"
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


def per_image(run: RunConfig) -> RunConfig:
    """Divide each image's error by I, and multiply alpha by I over the expected number of scored patches."""
    num_patches = run.model.num_patches
    probability_I = run.prefix.pmf(num_patches)
    num_scored = sum(float(chance) * (num_patches - m) for m, chance in enumerate(probability_I, 1))
    weight = run.objective.pixel_weight * num_patches / num_scored
    return replaced(run, {"objective.pixel_patches": "image", "objective.pixel_weight": weight})


def lacks(run: RunConfig) -> str:
    """Return what a run lacks for targets to be compared at equal weight; AdamW ignores the scale of a lone loss."""
    if objective(run.objective.name).reads_captions:
        return "beside captions, raw targets change the weight of the pixel loss; type objective.name=image_only"
    return ""


# Forms of the pixel loss at equal weight. A sum over a patch's values differs from their mean in alpha alone;
# ``sum_as_printed`` shows what the printed formula does with the paper's alpha. The form per image divides by I where
# the form per batch divides by the number of scored patches, so alpha is multiplied by their ratio (2 for uniform
# prefixes). Beside captions raw targets, whose error has another unit, change the weight of the pixel loss, so the
# claim on them is judged without captions:
#
#     python sweeps/launch.py sweep=loss_form objective.name=image_only "sweep.arms=[released,raw]"
LOSS_FORM = Study(
    slug="loss_form",
    question="Does the form of the pixel loss matter at equal weight: per batch or per image, standardised or raw?",
    source="AIMv2 section 2.1 has a sum over a patch's values and a mean over all patches. The released code has a"
    " mean over values and over the batch's scored patches, with the same alpha. AIM v1 Table 3a compares targets,"
    " without captions",
    design=one_factor(
        released=Arm(label="as released: mean, per batch, standardised"),
        image=Arm(label="per image, over all I, alpha raised to the same weight", change=per_image),
        image_mean=setting("per image, over its scored patches", {"objective.pixel_patches": "image_mean"}),
        raw=setting("raw targets, same alpha", {"objective.pixel_targets": "raw"}),
        sum_as_printed=setting(
            "sum over a patch's values, as printed: alpha x values of a patch (76.8 at demo)",
            {"objective.pixel_values": "sum"},
        ),
    ),
    baseline="released",
    primary_metric=READER,
    expected={"image": "equal", "image_mean": "equal", "sum_as_printed": "worse"},
    needs={"v1-normalised-pixels": lacks},
    claims={
        "v1-normalised-pixels": expect(
            "raw", "worse", than="released", why="AIM v1 Table 3a, without captions; its numbers were not found"
        )
    },
)

EOS = Study(
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
