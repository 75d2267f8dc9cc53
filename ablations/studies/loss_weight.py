from ablations.design import ladder, setting
from ablations.expectations import PROBE, expect
from ablations.study import Study

WEIGHTS = {"alpha_00": 0.0, "alpha_02": 0.2, "alpha_04": 0.4, "alpha_06": 0.6, "alpha_10": 1.0, "alpha_20": 2.0}

STUDY = Study(
    slug="loss_weight",
    question="Which weight should the pixel loss have relative to the caption loss?",
    source="AIMv2 Table 9c, with 0 and larger weights added",
    design=ladder(
        **{name: setting(f"alpha = {alpha:g}", {"objective.pixel_weight": alpha}) for name, alpha in WEIGHTS.items()}
    ),
    baseline="alpha_04",
    primary_metric="caption_loss",
    equivalence_margin=0.02,
    expected={"alpha_02": "equal", "alpha_06": "equal"},
    claims={
        "alpha-insensitive": expect(("alpha_02", "alpha_06"), "equal", than="alpha_04", metric=(PROBE, "caption_loss"))
        + expect("alpha_02", "equal", than="alpha_06", metric=(PROBE, "caption_loss")),
        "both-losses-beat-text-only": expect("alpha_04", "better", than="alpha_00", metric=PROBE),
    },
)
