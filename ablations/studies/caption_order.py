from aimv2.ablations.design import one_factor, setting
from aimv2.ablations.expectations import READER, expect
from aimv2.ablations.study import Study

STUDY = Study(
    slug="caption_order",
    question="Does image before caption give a better encoder than caption before image?",
    source="AIMv2 section 2.1, stated and never ablated. Caption losses are not comparable, as a caption that comes"
    " first is predicted without the image",
    design=one_factor(
        image_first=setting("image first", {"model.decoder.order": "image_first"}),
        text_first=setting("caption first", {"model.decoder.order": "text_first"}),
    ),
    baseline="image_first",
    primary_metric=READER,
    compares_curves=False,
    expected={"text_first": "worse"},
    claims={
        "image-first-order": expect("text_first", "worse", than="image_first", why="section 2.1; no number is given")
    },
)
