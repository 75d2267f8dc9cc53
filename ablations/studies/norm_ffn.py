from aimv2.ablations.design import Arm, factorial, setting
from aimv2.ablations.expectations import CONTENT, READER, expect
from aimv2.ablations.study import Study


def both(field: str, value: str, label: str) -> Arm:
    return setting(label, {f"model.encoder.{field}": value, f"model.decoder.{field}": value})


STUDY = Study(
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
