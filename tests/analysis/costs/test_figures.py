"""Figures of a cost study and their data."""

import pytest

from analysis.costs.figures import draw_ratios, encoder_points, objective_points
from analysis.costs.measurements import Measurements
from analysis.document.style import save, style
from tests.helpers.costs import SLOWER, measurements


@pytest.fixture
def study() -> Measurements:
    return measurements()


def test_encoders_have_a_panel_per_resolution_and_a_point_per_encoder_and_batch(study, tmp_path):
    with style():
        figure, data = draw_ratios(encoder_points(study.encoders))
        titles = [axis.get_title(loc="left") for axis in figure.axes if axis.axison]
        labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert titles == ["256 patches, bfloat16", "576 patches, bfloat16"]
    assert labels == ["CLIP ViT-L/14", "SigLIP ViT-L/16", "DINOv2 ViT-L/14"]
    assert len(data) == 2 * 3 * 2
    assert data["time_ratio"].tolist() == [SLOWER[name] for name in ("clip", "siglip", "dinov2")] * 4
    assert set(data["flops_ratio"]) == {1.0}
    save(figure, data, tmp_path, "encoders")
    assert "CLIP ViT-L/14, 256 patches, bfloat16, batch 4: 1.25 [1.25, 1.25]" in (tmp_path / "encoders.svg").read_text()


def test_objectives_have_a_panel_per_timed_scale(study, tmp_path):
    with style():
        figure, data = draw_ratios(objective_points(study.training))
    assert data[["panel", "row", "time_ratio", "flops_ratio"]].values.tolist() == [["demo", "clip", 0.5, 0.5]]
    assert (data["rounds"] == 6).all()
    save(figure, data, tmp_path, "objectives")
