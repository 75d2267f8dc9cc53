from aimv2.ablations.design import Arm, factorial, setting, switch_objective
from aimv2.ablations.expectations import CONTENT, expect
from aimv2.ablations.study import Study

ATTENTION = {
    name: setting(f"{name} attention", {"model.encoder.attention": name})
    for name in ("prefix", "causal", "bidirectional")
}
LOSSES = {"both": Arm(label="both losses"), "text": switch_objective("no pixel loss", "caption")}

STUDY = Study(
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
        "both-losses-beat-text-only": expect(
            "prefix_both", "better", than="prefix_text", why="Table 9a, IN-1k: 85.4 to 85.6"
        ),
    },
)
