from aimv2.ablations.design import one_factor, setting
from aimv2.ablations.expectations import READER, expect
from aimv2.ablations.study import Study

STUDY = Study(
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
