import shutil

from aimv2.runs.files import read_json, write_json
from analysis.load import load


def test_tables_have_a_row_per_finished_cell(evidence, cells):
    assert len(evidence.runs) == len(cells) == 32
    assert set(evidence.metrics["metric"]) == {
        "content_loss", "causal_content_loss", "pixel_loss_0.5", "probe_digits", "knn_digits", "caption_bits",
    }  # fmt: skip
    assert evidence.values("content_loss").shape == (4, 8)
    assert evidence.missing.empty
    assert evidence.unit("content_loss") == "nats/token"


def test_results_have_metrics_with_their_units_as_columns(evidence):
    assert len(evidence.results) == 32
    assert "caption_loss [nats/token]" in evidence.results


def test_metric_that_is_not_applicable_has_no_value(evidence):
    assert "causal" not in evidence.values("caption_bits")
    assert set(evidence.not_applicable["metric"]) == {"image_to_text_recall_1", "caption_bits"}


def test_step_time_is_absent_with_the_reason_where_a_device_did_the_work(cells, runs_dir, tmp_path):
    chosen = [cell for cell in cells if cell.seed == 0][:2]
    for cell in chosen:
        result = read_json(runs_dir / cell.name / "result.json")
        measured = 1.0 if cell.arm == "uniform" else None
        shutil.copytree(runs_dir / cell.name, tmp_path / cell.name)
        write_json(tmp_path / cell.name / "result.json", result | {"train_cpu_seconds": measured})
    evidence = load(chosen, tmp_path)
    assert list(evidence.values("train_cpu_ms_per_sample")) == ["uniform"]
    absent = evidence.not_applicable.set_index("metric").loc["train_cpu_ms_per_sample"]
    assert absent["arm"] == chosen[1].arm
    assert absent["evaluation"] == "not measured: a device or other ranks did part of the work"


def test_step_time_is_cpu_time_of_training_over_samples(evidence, cells):
    times = evidence.values("train_cpu_ms_per_sample")
    assert (times == 1000 / cells[0].config.budget.samples).all(axis=None)
    assert "untrained" not in times
