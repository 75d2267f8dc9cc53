"""The network: attention, norms and feed-forward layers, positions, and the order of patches."""

from aimv2.ablations.design import Arm, factorial, one_factor, setting, switch_objective
from aimv2.ablations.expectations import CONTENT, READER, expect
from aimv2.ablations.study import Study

ATTENTION = {
    name: setting(f"{name} attention", {"model.encoder.attention": name})
    for name in ("prefix", "causal", "bidirectional")
}
LOSSES = {"both": Arm(label="both losses"), "text": switch_objective("no pixel loss", "caption")}

ENCODER_ATTENTION = Study(
    slug="encoder_attention",
    question="Which encoder attention is best for training, with and without the pixel loss?",
    source="AIMv2 Table 9a has three of these six arms. It does not compare prefix attention with both losses to"
    " bidirectional attention without the pixel loss at equal compute",
    design=factorial(ATTENTION, LOSSES, names=("attention", "losses")),
    baseline="prefix_both",
    primary_metric=CONTENT,
    expected={"causal_both": "worse", "causal_text": "worse"},
    claims={
        "prefix-beats-bidirectional-for-captioning": expect(
            "prefix_text", "better", than="bidirectional_text", why="Table 9a, IN-1k: 85.1 to 85.4"
        )
        + expect(
            "prefix_text",
            "better",
            than="bidirectional_text",
            metric=CONTENT,
            why="in place of VQAv2 (76.2 to 76.8) and TextVQA (34.4 to 36.5) of Table 9a",
        ),
    },
)


def both(field: str, value: str, label: str) -> Arm:
    return setting(label, {f"model.encoder.{field}": value, f"model.decoder.{field}": value})


NORM_FFN = Study(
    slug="norm_ffn",
    question="Are RMSNorm and SwiGLU better than LayerNorm and GELU, at the same number of weights?",
    source="AIMv2 section 2.2, adopted from language models and never ablated. Weights are equal but for LayerNorm's"
    " shifts and the rounding of SwiGLU's width (3 % more at ViT-L, none at demo). Both change the decoder too, so the"
    " encoder is compared first",
    design=factorial(
        {"rms": both("norm", "rms", "RMSNorm"), "layer": both("norm", "layer", "LayerNorm")},
        {"swiglu": both("ffn", "swiglu", "SwiGLU"), "gelu": both("ffn", "gelu", "GELU")},
        names=("norm", "feed-forward layer"),
    ),
    baseline="rms_swiglu",
    primary_metric=READER,
    expected=dict.fromkeys(("layer_swiglu", "rms_gelu", "layer_gelu"), "worse"),
    claims={
        "swiglu-rmsnorm": expect(
            ("rms_gelu", "layer_swiglu", "layer_gelu"),
            "worse",
            than="rms_swiglu",
            metric=(READER, CONTENT),
            why="section 2.2 calls them good choices; no number is given",
        )
    },
)


POSITIONS = Study(
    slug="positions",
    question="Do learned positions differ from sine and cosine, and does the decoder need patch positions?",
    source="AIMv2 section 2.2 and the released code have learned positions, and none for patches in the decoder. AIM v1"
    " and the native-resolution model have sine and cosine. They were never compared. One arm changes the decoder, so"
    " the encoder is compared",
    design=one_factor(
        learned=Arm(label="learned"),
        sincos=setting("sine and cosine", {"model.encoder.positions": "sincos"}),
        decoder=setting("learned, in the decoder too", {"model.decoder.image_positions": True}),
    ),
    baseline="learned",
    primary_metric=READER,
    expected={"sincos": "equal", "decoder": "equal"},
)

PATCH_ORDER = Study(
    slug="patch_order",
    question="Does the order in which patches are read and predicted matter for the encoder?",
    source="AIM v1 Table 3b, without captions and with a causal encoder. AIMv2 keeps the raster order and never varies"
    " it. The pixel losses of two orders are losses of other tasks, so the encoder is compared",
    design=one_factor(
        raster=setting("row by row", {"model.patch_order": "raster"}),
        spiral=setting("outwards from the centre", {"model.patch_order": "spiral"}),
        random=setting("one random order for all", {"model.patch_order": "random"}),
    ),
    baseline="raster",
    primary_metric=READER,
    expected={"random": "worse"},
    claims={
        "v1-raster-order": expect("spiral", "worse", than="raster", why="AIM v1 Table 3b: 77.4 to 76.3")
        + expect("random", "worse", than="raster", why="AIM v1 Table 3b: 77.4 to 75.7")
    },
)
