"""Times of runs: what is recorded, how others follow from it, and calibration runs, done for real."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from aimv2.config.program import replaced
from aimv2.config.recipes.scales import demo, laptop, vit_3b
from aimv2.config.training_config import BudgetConfig
from aimv2.request.resolve import resolve, with_attention
from aimv2.run.price import price
from aimv2.run.times import (
    CURVE_SHARE,
    EFFORTS,
    TIMES,
    EvaluationTimes,
    RecordedClock,
    calibrate,
    evaluation_effort,
    nearest,
    recorded,
    remember,
    seconds_of,
    training_effort,
    training_left,
)
from tests.helpers.marks import exhaustive
from tests.helpers.native import at_native


@pytest.fixture
def tiny(tiny, tmp_path):
    """With a cache folder of its own."""
    return replace(tiny, data=replace(tiny.data, cache_dir=str(tmp_path / "cache")))


@pytest.fixture
def record(tmp_path):
    """Write the record of a run that started for 1 s, measured a curve for 4 s, and was evaluated for ``evaluation``
    s; its CPU time is half of that."""

    def write(config, *, speed=100.0, evaluation=10.0):
        run = tmp_path / config.name
        attempt = run / "attempts" / "0002"
        attempt.mkdir(parents=True, exist_ok=True)
        samples, rows = config.budget.samples, []
        if samples:
            step = {"images_per_second": speed, "step_cpu_seconds": 0.5 * config.budget.batch_size / speed}
            rows = [{"step": 0, "seconds": 1.0}] + [{"step": n} | step for n in (1, 2, 3)]
            rows[1]["images_per_second"] = speed / 10  # the first step warms up
        train_seconds = 1.0 + (samples / speed + 4.0 if samples else 0.0)
        seconds = {"seconds": train_seconds + evaluation, "train_seconds": train_seconds}
        seconds |= {"cpu_seconds": seconds["seconds"] / 2, "train_cpu_seconds": samples / speed / 2}  # of all steps
        files = {run / "config.json": config.to_dict(), run / "result.json": {"attempt": 2} | seconds}
        for path, values in files.items():
            path.write_text(json.dumps(values))
        (attempt / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return run

    return write


@pytest.fixture
def table(record):
    """Return the table after these runs, as another process reads it."""

    def read(*runs):
        for run in runs:
            remember(run, record(run))
        return recorded(Path(runs[0].data.cache_dir))

    return read


def test_seconds_are_those_of_the_record(tiny, record):
    assert seconds_of(record(tiny)) == pytest.approx({"training": 1 / 100, "evaluation": 1 + 10})
    assert seconds_of(record(tiny.untrained())) == pytest.approx({"evaluation": 11})


@pytest.mark.parametrize(
    ("change", "seconds"),
    [
        ({"device": "cpu"}, (0.5 / 100, (1 + 4 + 10) / 2)),
        ({"threads": 2}, (1 / 100, 1 + 10)),
        ({"loader.num_workers": 2}, (1 / 100, 1 + 10)),
        ({"data.sources": ("pets.yaml",)}, (1 / 100, 1 + 10)),
    ],
    ids=str,
)
def test_a_short_run_of_one_thread_counts_its_cpu_time(tiny, record, change, seconds):
    run = replaced(tiny, change)
    found = {one.part: one.seconds for one in remember(run, record(run), is_short=True)}
    assert (found["training"], found["evaluation"]) == pytest.approx(seconds)
    assert [one.seconds for one in remember(run, record(run))] == pytest.approx([11, 1 / 100])


def test_a_run_of_the_same_effort_has_the_times_of_the_last_one(tiny, record):
    for seed, speed, evaluation in ((0, 100.0, 10.0), (1, 200.0, 20.0)):
        remember(replace(tiny, seed=seed), record(replace(tiny, seed=seed), speed=speed, evaluation=evaluation))
    table = recorded(Path(tiny.data.cache_dir))
    assert {one.run for one in table} == {replace(tiny, seed=1).name}
    longer = replaced(tiny, {"budget.samples": 32, "seed": 9})
    assert nearest(longer, "training", table)[0] == pytest.approx(1 / 200)
    assert nearest(longer.untrained(), "evaluation", table)[0] == pytest.approx(1 + 20)


@pytest.mark.parametrize(
    "change",
    [{"model.patch_px": 2}, {"budget.batch_size": 4}, {"model.decoder.depth": 3}, {"start.frozen": ("encoder",)}],
    ids=str,
)
def test_a_run_of_another_effort_takes_the_nearest_times_the_ratio_of_efforts(tiny, table, change):
    other, far = replaced(tiny, change), replaced(tiny, {"model.encoder.depth": 12})
    seconds, source = nearest(other, "training", table(tiny, far))
    assert source.run == tiny.name
    ratio = EFFORTS["training"](other) / EFFORTS["training"](tiny)
    assert ratio != 1
    assert seconds == pytest.approx(ratio / 100)


@pytest.mark.parametrize("change", [{"threads": 2}, {"precision": "bfloat16"}, {"model.encoder.depth": 64}], ids=str)
def test_a_run_on_another_machine_or_with_another_order_of_effort_is_not_known(tiny, table, change):
    other = replaced(tiny, change)
    assert nearest(other, "training", table(tiny)) is None
    assert nearest(other, "training", table(tiny, other))[1].run == other.name


def test_times_of_other_machines_count_where_runs_are_executed_elsewhere(tiny, record):
    [evaluation, training] = remember(tiny, record(tiny))
    folder = Path(tiny.data.cache_dir) / TIMES
    for path in folder.iterdir():
        path.write_text(json.dumps(json.loads(path.read_text()) | {"hardware": "NVIDIA H100"}))
    assert RecordedClock(measure=None)(tiny) is None
    there = RecordedClock(measure=None, is_here=False)(tiny)
    assert there.training == pytest.approx(tiny.budget.samples * training.seconds)
    assert there.evaluation > evaluation.seconds
    assert there.estimated_from == {f"run {tiny.name} on NVIDIA H100"}


def test_a_record_without_times_has_none(tiny, record):
    run = record(replace(tiny, seed=1))
    (run / "result.json").write_text("[]")
    assert remember(replace(tiny, seed=1), run) == []


def test_times_that_cannot_be_written_are_returned(tiny, record):
    nowhere = replaced(tiny, {"data.cache_dir": "/dev/null/cache"})
    assert [one.seconds for one in remember(nowhere, record(nowhere))] == pytest.approx([11, 1 / 100])


@pytest.mark.parametrize(
    "change",
    ["{", '{"images_per_second": 3}', {"effort": 0}, {"seconds": -1.0}, {"effort": float("nan")}, {"effort": "much"}],
    ids=str,
)
def test_a_broken_file_and_one_with_impossible_numbers_are_skipped(tiny, table, change):
    assert len(table(tiny)) == 2
    broken = min((Path(tiny.data.cache_dir) / TIMES).iterdir())
    broken.write_text(change if isinstance(change, str) else json.dumps(json.loads(broken.read_text()) | change))
    assert len(recorded(Path(tiny.data.cache_dir))) == 1


@pytest.fixture
def clock(record):
    """Make a clock, as a new process does. Gives it and the runs it measures, each short as a calibration's."""

    def make(**times):
        measured = []

        def measure(config):
            measured.append(config)
            return remember(config, record(config, **times), is_short=True) if times else []

        return RecordedClock(measure=measure), measured

    return make


def test_time_is_steps_and_curve_and_evaluation(tiny, clock):
    here, _ = clock(speed=512.0, evaluation=6.0)
    pairs = tiny.evaluation.curve_points * tiny.evaluation.curve_pairs
    a_sample, evaluation = 0.5 / 512, (1 + 4 + 6) / 2  # CPU seconds of a short run
    assert here(tiny)[:2] == pytest.approx((16 * a_sample, CURVE_SHARE * pairs * a_sample + evaluation))
    assert here(tiny.untrained())[:2] == (0.0, evaluation)
    double = replaced(tiny, {"budget.samples": 32})
    assert here(double).training == 2 * here(tiny).training


def test_all_runs_of_a_plan_follow_from_one_measurement(tiny, clock):
    here, measured = clock(speed=512.0)
    wider = replaced(tiny, {"model.decoder.depth": 3})
    short = frozenset(["a short run"])
    assert here(tiny).estimated_from == here(tiny.untrained()).estimated_from == frozenset(), "it is of their shape"
    assert here(wider).estimated_from == short
    assert here(wider).training == pytest.approx(here(tiny).training * training_effort(wider) / training_effort(tiny))
    assert price([tiny, wider], here).basis == ", estimated from a short run"
    assert measured == [tiny]
    later, measured_later = clock(speed=1.0)
    assert later(wider) == here(wider)
    assert measured_later == []


def test_an_estimate_names_the_runs_that_it_follows_from(tiny, record):
    remember(tiny, record(tiny))
    wider = replaced(tiny, {"model.decoder.depth": 3})
    here = RecordedClock(measure=None)
    assert price([tiny], here).basis == ""
    assert price([wider], here).basis == f", estimated from run {tiny.name}"
    remember(wider.untrained(), record(wider.untrained()))
    assert price([wider], RecordedClock(measure=None)).basis == f", estimated from run {tiny.name}"
    far = replaced(tiny, {"model.decoder.depth": 60})
    remember(far, record(far))
    both = price([replaced(far, {"model.decoder.depth": 50}), wider], RecordedClock(measure=None)).basis
    assert both in [f", estimated from run {one} and 1 more" for one in (run.name for run in (tiny, far))]


@pytest.mark.parametrize("change", [{"model.encoder.depth": 64}, {"threads": 2}, {"precision": "bfloat16"}], ids=str)
def test_a_far_run_and_another_setting_of_equal_effort_are_measured_too(tiny, clock, change):
    here, measured = clock(speed=512.0)
    other = replaced(tiny, change)
    assert None not in (here(tiny), here(other))
    assert measured == [tiny, other]


def test_times_of_pictures_in_files_are_those_of_the_same_files(tiny, record):
    small, large = (replaced(tiny, {"data.sources": (f"{name}.yaml",)}) for name in ("small", "large"))
    remember(small, record(small))
    table = recorded(Path(tiny.data.cache_dir))
    assert nearest(small, "training", table) is not None
    assert nearest(large, "training", table) is None


def test_an_unknown_time_is_none_and_is_not_measured_twice(tiny, clock):
    here, measured = clock()
    assert (here(tiny), here(tiny.untrained()), here(replace(tiny, seed=1))) == (None,) * 3
    assert len(measured) == 1


@pytest.mark.parametrize("name", ["aimv2", exhaustive("clip")])
def test_a_calibration_run_measures_every_time(tiny, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    run = with_attention(
        replaced(tiny, {"objective.name": name, "model.encoder.attention": "auto", "optimizer.peak_lr": 1e30})
    )
    found = calibrate(run)
    assert {one.part: one.run for one in found} == {"training": "", "evaluation": ""}
    assert min(one.seconds for one in found) > 0
    assert sorted(recorded(tmp_path / "cache")) == sorted(found)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.exhaustive
def test_runs_that_may_write_nothing_of_native_images_and_untrained_ones_are_measured(tiny):
    native = at_native(tiny, budget={"samples": 160, "batch_size": 16}, ranks=2)  # in whole images of each area
    for run in (replaced(tiny, {"data.cache_dir": "/dev/null/cache"}), native):
        assert sorted(one.part for one in calibrate(run)) == ["evaluation", "training"]
    assert [one.part for one in calibrate(tiny.untrained())] == ["evaluation"]


def test_a_run_that_fails_has_no_times_and_says_why(tiny, capsys):
    overflows = replaced(tiny, {"objective.pixel_weight": 1e39})
    assert calibrate(overflows) == []
    assert "the speed of this model could not be measured: gradient_norm is" in capsys.readouterr().err


def test_a_model_that_is_too_large_is_not_measured():
    large = replace(with_attention(vit_3b()), device="cpu", precision="float32")
    assert calibrate(large) == []
    small = replace(with_attention(demo()), device="cpu", precision="float32")
    assert calibrate(small, memory=lambda: 1e8) == []


def test_the_time_of_an_arm_is_that_of_its_own_run_then_a_recorded_one_then_that_of_another_arm(tiny, record):
    times = EvaluationTimes()
    assert times.of("a", tiny) is None
    times.learn("b", record(tiny, evaluation=30.0))
    assert times.of("a", tiny) == pytest.approx(31)

    remember(tiny, record(tiny, evaluation=20.0))
    times = EvaluationTimes()
    times.learn("b", record(replace(tiny, seed=2), evaluation=30.0))
    assert times.of("a", tiny) == pytest.approx(21)
    times.learn("a", record(replace(tiny, seed=1), evaluation=10.0))
    assert times.of("a", tiny) == pytest.approx(11)


def test_a_finished_run_whose_record_is_broken_tells_no_time(tiny, record):
    run, times = record(tiny), EvaluationTimes()
    (run / "result.json").write_text("{")
    times.learn("a", run)
    assert times.of("a", tiny) is None


def test_training_left_has_the_rest_of_the_curve(tiny):
    """A pair of the curve takes half as long as a sample."""
    config = replace(tiny, budget=BudgetConfig(samples=80, batch_size=8))
    pairs = config.evaluation.curve_points * config.evaluation.curve_pairs
    assert training_left(config, 80, 10.0) == 0
    assert training_left(config, 60, 10.0) == pytest.approx(2.0 + pairs / 4 / 2 / 10)


# CPU milliseconds of a training sample, the fastest of 55 steps, on one core of an AMD EPYC.
MEASURED = {
    (): 1.445,
    (("model.encoder.depth", 2),): 1.098,
    (("model.encoder.depth", 8),): 1.502,
    (("model.decoder.width", 32), ("model.decoder.num_heads", 2), ("model.decoder.ffn_multiple", 16)): 0.947,
    (("model.decoder.width", 96), ("model.decoder.num_heads", 6)): 1.585,
    (("model.decoder.depth", 1),): 1.057,
    (("model.decoder.depth", 3),): 1.639,
    (("objective.name", "clip"),): 0.939,
    (("objective.name", "clip"), ("budget.batch_size", 32)): 0.678,
    (("budget.batch_size", 64),): 0.913,
}


@pytest.fixture(scope="module")
def base():
    return resolve(laptop(), available="cpu")


@pytest.mark.parametrize("changes", MEASURED, ids=str)
def test_training_effort_has_the_ratios_of_measured_times(base, changes):
    ratio = training_effort(replaced(base, dict(changes))) / training_effort(base)
    assert ratio == pytest.approx(MEASURED[changes] / MEASURED[()], rel=0.4)


def test_flops_alone_would_be_wrong_by_more(base):
    """At a quarter of the FLOPs, images only take 0.63 of the time."""
    only = replaced(base, {"objective.name": "image_only"})
    assert training_effort(only) / training_effort(base) == pytest.approx(0.911 / 1.445, rel=0.05)


def test_evaluation_effort_grows_with_each_count_and_is_that_of_the_untrained_encoder(base):
    assert evaluation_effort(base.untrained()) == evaluation_effort(base)
    for key, more in {
        "num_items": 10_240,
        "num_pairs": 1024,
        "num_probe_scenes": 2048,
        "probe.epochs": 12,
        "sets": ("pets.yaml",),
        "reader.samples": 40_960,
        "reader.questions": 10_240,
        "reader.pairs": 20_480,
    }.items():
        assert evaluation_effort(replaced(base, {f"evaluation.{key}": more})) > evaluation_effort(base), key


def test_a_part_of_the_evaluation_takes_that_part_of_the_effort(base):
    """All parts measured on this core took 24.9 s, and those of a sixteenth of all counts 2.2 s, digits included."""
    values = {"num_items": 5120, "num_pairs": 512, "num_other_images": 1024, "num_probe_scenes": 1024}
    values |= {"reader.samples": 20_480, "reader.pairs": 10_240, "reader.questions": 5120}
    part = replaced(base, {f"evaluation.{key}": count // 16 for key, count in values.items()})
    assert evaluation_effort(base) / evaluation_effort(part) == pytest.approx(24.9 / 2.2, rel=0.2)
