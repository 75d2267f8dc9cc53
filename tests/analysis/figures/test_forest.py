from dataclasses import replace

import pytest
from matplotlib.colors import to_hex

from analysis.document.style import INK, SOFT
from analysis.figures.forest import forest
from analysis.judgement.compare import Differences
from tests.helpers.evidence import evidence_from, evidence_of, sensitive
from tests.helpers.specimen import STUDY

METRICS = ("content_loss", "probe_object", "caption_loss")


@pytest.fixture(scope="module")
def made():
    effects = {"causal": 0.1, ("positive_control", "content_loss"): 5.0}
    return evidence_of(STUDY, effects, spread=0.01, metrics=METRICS)


def test_every_metric_has_a_panel_with_all_arms_and_controls(made):
    figure, data = forest(STUDY, made, sensitive("content_loss"))
    assert len(figure.axes) == 3
    others = [arm for arm in STUDY.conditions if arm != STUDY.baseline]
    for metric, rows in data.groupby("metric"):
        assert rows["arm"].tolist() == others
        for row in rows.itertuples():
            level = 0.99 if row.arm == "null_control" else 0.95
            expected = Differences(STUDY, made).separately(metric, row.arm, level)
            assert (row.mean, row.low, row.high, row.level) == (expected.mean, expected.low, expected.high, level)
        assert set(rows["margin"]) == {STUDY.margin(metric)}


def test_titles_say_which_side_is_better_and_whether_the_metric_is_sensitive(made):
    figure, data = forest(STUDY, made, sensitive("content_loss"))
    titles = {axis.get_title(loc="left"): axis._left_title for axis in figure.axes}
    assert list(titles) == ["content loss\n← better", "probe object\nbetter →", "caption loss\n← better"]
    assert [to_hex(title.get_color()) for title in titles.values()] == [INK, SOFT, SOFT]
    assert data.groupby("metric")["is_sensitive"].first().to_dict() == {
        "caption_loss": False,
        "content_loss": True,
        "probe_object": False,
    }


def test_a_control_off_the_scale_is_an_arrow(made):
    figure, _ = forest(STUDY, made, {})
    cut, whole = figure.axes[:2]
    assert cut.get_xlim()[1] < 1
    assert [text.get_text() for text in cut.texts] == ["→"]
    assert not whole.texts


def test_withheld_differences_are_left_out(made):
    failed = replace(made, missing=evidence_from([], [], missing=[("causal", 9, True)]).missing)
    assert "causal" not in set(forest(STUDY, failed, {})[1]["arm"])
    all_failed = replace(made, missing=evidence_from([], [], missing=[(STUDY.baseline, 9, True)]).missing)
    figure, data = forest(STUDY, all_failed, {})
    assert data.empty
    assert not [axis for axis in figure.axes if axis.lines]
