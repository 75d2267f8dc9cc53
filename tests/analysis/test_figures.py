from dataclasses import replace

import pytest

from ablations.catalogue import STUDIES
from ablations.studies.prefix_ratio import STUDY
from analysis.figures import draw_all, palette
from tests.helpers.evidence import evidence_from


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_arm_has_a_colour_of_its_own(study):
    colours = palette(study)
    assert set(colours) == set(study.conditions)
    assert len({colours[arm] for arm in study.arms}) == len(study.arms)


def test_figures_without_evidence_are_left_out(tmp_path):
    assert draw_all(STUDY, evidence_from([], []), {}, tmp_path) == []


def test_probes_alone_draw_accuracies_alone(evidence, tmp_path):
    metrics = evidence.metrics[evidence.metrics["metric"].str.startswith(("probe_", "knn_"))]
    some = replace(evidence, metrics=metrics, curves=evidence.curves.drop(columns="held_out_caption_loss"))
    assert draw_all(STUDY, some, {}, tmp_path) == ["accuracy"]
    assert [path.name for path in tmp_path.iterdir()] == ["accuracy.svg"]
