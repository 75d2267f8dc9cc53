"""Claims in figures: every cell and every difference is drawn."""

import itertools
import math

import pytest
from matplotlib.patches import Rectangle

from aimv2.analysis.document.model import VERDICTS
from aimv2.analysis.document.style import style
from aimv2.analysis.figures.claims import FAR, ClaimCell, Row, claims_map, forest
from aimv2.analysis.judgement.claims import WORDS


@pytest.fixture(autouse=True)
def styled():
    with style():
        yield


def test_every_verdict_has_a_look_of_its_own():
    assert set(VERDICTS) == set(WORDS)
    assert len({look.color for look in VERDICTS.values()}) == len(WORDS)


def test_each_claim_is_a_cell_in_the_colour_of_its_verdict():
    groups = {
        "one": [ClaimCell(f"claim-{number}", word, "a note") for number, word in enumerate(VERDICTS)],
        "two": [ClaimCell("last", "supported", "")],
    }
    figure, data = claims_map(groups)
    (axis,) = figure.axes
    texts = [text.get_text() for text in axis.texts]
    assert texts == [*VERDICTS, "one", *(f"claim-{number}" for number in range(len(VERDICTS))), "two", "last"]
    bars = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    assert len(bars) == 2 * len(VERDICTS) + 1, "a legend and the cells"
    assert list(data["verdict"]) == [*VERDICTS, "supported"]
    places = [text.get_position() for text in axis.texts]
    assert len(set(places)) == len(places), "none over another"
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axis.texts]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert max(box.x1 for box in boxes) <= figure.bbox.x1


def test_differences_beyond_the_scale_end_at_its_edge():
    rows = [
        Row("near", "undecided", "supported", "0.3 points", "a minus b: 0.1", 2.0, 1.0, 3.0),
        Row("far", "undecided", "undecided", "", "c minus d: 0.2", 9.0, -50.0, math.inf),
    ]
    figure, data = forest(rows)
    (axis,) = figure.axes
    ends = [list(line.get_xdata()) for line in axis.lines if len(set(line.get_ydata())) == 1]
    assert [1.0, 3.0] in ends
    assert [-FAR, FAR] in ends
    texts = [text.get_text() for text in axis.texts]
    assert texts == ["a minus b: 0.1", "near: undecided; paper: 0.3 points", "c minus d: 0.2", "far: undecided"]
    assert [row["mean"] for row in data.to_dict("records")] == [2.0, 9.0]
