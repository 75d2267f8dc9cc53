from dataclasses import replace

import numpy as np
import pytest

from aimv2.config.evaluation_config import ProbeConfig
from aimv2.data.transfer import Task, TransferSet
from aimv2.evaluation.features import Encoded
from aimv2.evaluation.parts import unsaved
from aimv2.evaluation.probes.measure import measure
from aimv2.objectives.build import build


@pytest.mark.parametrize(
    ("learning_rates", "is_at_edge"), [((1e-5, 1e-2), True), ((1e-5, 1e-2, 1e4), False), ((1e-2,), False)]
)
def test_setting_at_the_edge_of_the_grid_has_a_warning(tiny, learning_rates, is_at_edge):
    """The tops of the pictures are white or black; the label says which."""
    grid = ProbeConfig(learning_rates=learning_rates, weight_decays=(0.05,), epochs=20, batch_size=16, head_dim=16)
    config = replace(tiny, evaluation=replace(tiny.evaluation, probe=grid))
    label_N1 = np.arange(64)[:, None] % 2
    images = np.zeros((64, 16, 16, 3), dtype=np.uint8)
    images[:, :8] = 255 * label_N1[:, None, None]
    task = Task("ink", 2, label_N1, label_N1, label_N1)
    found = TransferSet(images, images, images, np.arange(64), (task,))
    encoded = Encoded(build(config).encoder, images, config)
    measured = measure(encoded, [found], unsaved)
    assert set(measured) == {"probe_ink", "causal_probe_ink", "knn_ink"}
    assert measured["probe_ink"].items.value == 1
    assert "lr 0.01 " in measured["probe_ink"].how
    assert ("edge of the grid" in measured["probe_ink"].warning) == is_at_edge
    assert "causal attention" in measured["causal_probe_ink"].how
