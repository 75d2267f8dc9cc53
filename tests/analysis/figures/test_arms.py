from dataclasses import replace

import pytest

from ablations.catalogue import STUDIES
from analysis.figures.arms import differences_to_baseline, draw_all, palette
from analysis.judgement.compare import Differences
from tests.helpers.evidence import evidence_from, evidence_of
from tests.helpers.specimen import STUDY


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_arm_has_a_colour_of_its_own(study):
    colours = palette(study)
    assert set(colours) == set(study.conditions)
    assert len({colours[arm] for arm in study.arms}) == len(study.arms)


def test_figures_without_evidence_are_left_out(tmp_path):
    assert draw_all(STUDY, evidence_from([], []), {}, tmp_path) == []


def test_controls_off_the_scale_are_cut_off_with_their_value():
    effects = {"positive_control": 5.0, "causal": 0.1}
    evidence = evidence_of(STUDY, effects, spread=0.01, shared=0)
    estimates = Differences(STUDY, evidence).from_baseline("content_loss", ["causal", "fixed_25"])
    axis = differences_to_baseline(STUDY, evidence, estimates).axes[0]
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels[-2:] == ["the baseline with other seeds", "shuffled captions"]
    assert axis.get_xlim()[1] < 1
    (value,) = axis.texts
    assert value.get_text().endswith("→")
    assert float(value.get_text().split()[0]) == pytest.approx(5, abs=0.1)


def test_probes_alone_draw_accuracies_alone(evidence, tmp_path):
    metrics = evidence.metrics[evidence.metrics["metric"].str.startswith(("probe_", "knn_"))]
    some = replace(evidence, metrics=metrics, curves=evidence.curves.drop(columns="held_out_caption_loss"))
    assert draw_all(STUDY, some, {}, tmp_path) == ["accuracy"]
    assert [path.name for path in tmp_path.iterdir()] == ["accuracy.svg"]
