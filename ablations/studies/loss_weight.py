from aimv2.ablations.design import ladder, setting
from aimv2.ablations.expectations import CONTENT, READER, expect
from aimv2.ablations.study import Study

WEIGHTS = (0.0, 0.1, 0.2, 0.4, 0.6, 1.0, 2.0)
ALPHAS = {f"alpha_{round(10 * weight):02}": weight for weight in WEIGHTS}

LOSS_WEIGHT = Study(
    slug="loss_weight",
    question="Which weight should the pixel loss have relative to the caption loss?",
    source="AIMv2 Table 9c (0.2, 0.4 and 0.6), with 0, 0.1 and larger weights added",
    design=ladder(
        **{name: setting(f"alpha = {alpha:g}", {"objective.pixel_weight": alpha}) for name, alpha in ALPHAS.items()}
    ),
    baseline="alpha_04",
    primary_metric=CONTENT,
    expected={"alpha_02": "equal", "alpha_06": "equal"},
    claims={
        "alpha-insensitive": tuple(
            expectation
            for one, other in (("alpha_02", "alpha_04"), ("alpha_06", "alpha_04"), ("alpha_02", "alpha_06"))
            for metric, why in (
                (READER, "Table 9c, IN-1k: 85.6 for all three"),
                (CONTENT, "in place of VQAv2 (76.7, 76.9, 76.7) and TextVQA (37.4, 37.5, 37.4) of Table 9c"),
            )
            for expectation in expect(one, "equal", than=other, metric=metric, why=why)
        ),
        "both-losses-beat-text-only": expect(
            "alpha_04", "better", than="alpha_00", why="Table 9a, IN-1k: 85.4 to 85.6"
        ),
    },
)
