def test_tables_have_a_row_per_finished_cell(evidence, cells):
    assert len(evidence.runs) == len(cells) == 32
    assert set(evidence.metrics["metric"]) == {
        "caption_loss", "causal_caption_loss", "pixel_loss_0.5", "probe_digits", "knn_digits", "bits",
    }  # fmt: skip
    assert evidence.values("caption_loss").shape == (4, 8)
    assert evidence.missing.empty
    assert evidence.unit("caption_loss") == "nats/token"


def test_results_have_metrics_with_their_units_as_columns(evidence):
    assert len(evidence.results) == 32
    assert "caption_loss [nats/token]" in evidence.results


def test_metric_that_is_not_applicable_has_no_value(evidence):
    assert "causal" not in evidence.values("bits")
    assert set(evidence.not_applicable["metric"]) == {"recall", "bits"}


def test_step_time_is_training_time_over_samples(evidence, cells):
    times = evidence.values("train_ms_per_sample")
    assert (times == 1000 / cells[0].config.budget.samples).all(axis=None)
    assert "untrained" not in times
