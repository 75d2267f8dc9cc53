import pytest

from analysis.sections.words import metric_title, percent, runs_of


@pytest.mark.parametrize(("level", "text"), [(0.95, "95"), (0.975, "97.5"), (0.9875, "98.75"), (0.996875, "99.6875")])
def test_levels_in_per_cent_have_no_zeros_at_their_end(level, text):
    assert percent(level) == text


def test_metrics_have_names_in_prose():
    assert metric_title("content_loss") == "held-out loss of content words"
    assert metric_title("knn_object") == "kNN object"


def test_runs_of_arms_are_named_once(findings):
    names = runs_of(findings.evidence, "causal", "uniform", "causal")
    assert sorted(names) == sorted(cell.name for cell in findings.cells if cell.arm in ("causal", "uniform"))
