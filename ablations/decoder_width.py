"""How wide should the decoder be?"""

from ablations.design import Arm, ladder
from ablations.study import PROBE, Study, expect
from aimv2.config import RunConfig
from aimv2.paths import replaced


def width(ratio: float) -> Arm:
    """The decoder so many times as wide; with heads in proportion where they divide the width (the paper is silent on
    them), as many as before where not."""

    def change(run: RunConfig) -> RunConfig:
        decoder = run.model.decoder
        wide, heads = round(decoder.width * ratio), round(decoder.num_heads * ratio)
        proportional = wide * decoder.num_heads == decoder.width * heads
        num_heads = heads if proportional else decoder.num_heads
        return replaced(run, {"model.decoder.width": wide, "model.decoder.num_heads": num_heads})

    return Arm(label=f"{ratio:g} x as wide", change=change)


STUDY = Study(
    slug="decoder_width",
    question="Is there a best width of the decoder, and does a wider one hurt?",
    source="AIMv2 Table 9e: 512, 1024 and 1536, a half, one and one and a half times the ViT-L's own width",
    design=ladder({"width_050": width(0.5), "width_100": width(1), "width_150": width(1.5)}),
    baseline="width_100",
    primary_metric="caption_loss",
    smallest_difference=0.02,
    expected={"width_050": "worse", "width_150": "worse"},
    claims={
        "decoder-width-optimum": expect(("width_050", "width_150"), "worse", than="width_100", metric=PROBE),
    },
)
