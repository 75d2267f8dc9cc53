"""The figure of a cost study and its data."""

from aimv2.analysis.costs.figures import draw_encoders
from aimv2.analysis.document.style import save, style
from tests.helpers.costs import SLOWER, measurements


def test_encoders_have_a_panel_per_resolution_and_a_point_per_encoder_and_batch(tmp_path):
    with style():
        figure, data = draw_encoders(measurements().encoders)
        titles = [axis.get_title(loc="left") for axis in figure.axes if axis.axison]
        labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert titles == ["256 patches, bfloat16", "576 patches, bfloat16"]
    assert labels == ["CLIP ViT-L/14", "SigLIP ViT-L/16", "DINOv2 ViT-L/14"]
    assert len(data) == 2 * 3 * 2
    assert data["time_ratio"].tolist() == [SLOWER[name] for name in ("clip", "siglip", "dinov2")] * 4
    assert set(data["flops_ratio"]) == {1.0}
    save(figure, data, tmp_path, "encoders")
    assert "CLIP ViT-L/14, 256 patches, bfloat16, batch 4: 1.25 [1.25, 1.25]" in (tmp_path / "encoders.svg").read_text()
