import numpy as np

from aimv2.analysis.inference.intervals import mean_interval
from tests.helpers.evidence import evidence_from


def test_means_of_accuracies_have_intervals_between_0_and_1():
    values = {"probe_object": (0.9, 0.97, 1.0), "content_loss": (0.0, 0.1, 0.3)}
    units = {"probe_object": "accuracy", "content_loss": "nats/token"}
    rows = [("a", seed, name, one, units[name], "", "") for name, own in values.items() for seed, one in enumerate(own)]
    evidence = evidence_from([], rows)
    assert mean_interval(np.array(values["probe_object"])).high > 1
    assert evidence.mean("probe_object", "a").high == 1
    assert evidence.mean("content_loss", "a") == mean_interval(np.array(values["content_loss"]))


def test_metric_that_is_not_applicable_has_no_value(evidence):
    assert "causal" not in evidence.values("caption_bits")
    assert set(evidence.not_applicable["metric"]) == {"image_to_text_recall_1", "caption_bits"}
