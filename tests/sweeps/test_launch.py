"""The launcher as it is typed, and what it leaves."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablations.catalogue import STUDIES
from sweeps import launch
from tests.helpers.sweeps import SMALL

LAUNCH = Path(__file__).parents[2] / "sweeps" / "launch.py"
SEEN = "{arm:causal,metric:caption_loss,relation:worse,than_arm:uniform,than_metric:caption_loss}"


@pytest.fixture
def command(tmp_path, cache_dir):
    """The command line of a small sweep, to which more can be added."""

    def build(*more, sweep="prefix_ratio"):
        said_anew = {argument.partition("=")[0] for argument in more}
        small = [argument for argument in SMALL if argument.partition("=")[0] not in said_anew]
        return [sys.executable, str(LAUNCH), f"sweep={sweep}", f"data.cache_dir={cache_dir}", *small, *more]

    return build


@pytest.fixture
def typed(command, tmp_path):
    def run(*more, **options):
        return subprocess.run(command(*more, **options), cwd=tmp_path, capture_output=True, text=True, timeout=540)

    return run


def results(folder):
    return sorted(Path(folder).glob("runs/*/result.json"))


def attempts(folder):
    return sorted(Path(folder).glob("runs/*/attempts/*"))


def test_a_dry_run_prints_the_plan_and_its_price_and_writes_no_run(typed, tmp_path):
    shown = typed("dry_run=true")
    assert shown.returncode == 0, shown.stderr
    assert "causal" in shown.stdout
    assert "24 runs, 24 to do" in shown.stdout
    assert "training FLOPs" in shown.stdout
    assert not list(tmp_path.iterdir())


def test_plans_and_status_load_no_torch_unless_something_must_be_measured(command, tmp_path, cache_dir):
    """It takes longer to load than all the rest."""
    asked = [*command("sweep.seeds=125")[2:], "dry_run=true"]
    assert launch.main(asked) == 0  # which measures
    (tmp_path / "runs").mkdir()
    look = f"launch.main({asked!r}); manage.main(['status'])"
    script = f"import sys; from sweeps import launch, manage; {look}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert "750 runs, 750 to do" in done.stdout, done.stderr
    assert "nothing was launched into this folder yet" in done.stdout
    assert not {"torch", "pandas", "scipy", "sklearn", "optuna"} & set(done.stdout.splitlines()[-1].split())


def test_help_lists_the_sweeps_with_their_questions(tmp_path):
    shown = subprocess.run([sys.executable, str(LAUNCH), "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert shown.returncode == 0
    for study in STUDIES.values():
        assert study.slug in shown.stdout
        assert study.question in shown.stdout


@pytest.mark.slow
def test_a_sweep_runs_once_and_leaves_a_report(typed, tmp_path):
    asked = ("sweep.arms=[uniform,causal]", "sweep.seeds=1")
    first = typed(*asked)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "3 runs done" in first.stdout
    assert "busy" in first.stdout
    assert len(results(tmp_path)) == len(attempts(tmp_path)) == 3
    report = tmp_path / "reports" / "prefix_ratio"
    for name in ("report.md", "report.html", "results.csv", "figures/learning_curves.svg"):
        assert (report / name).stat().st_size > 0, name

    second = typed(*asked)
    assert second.returncode == 0
    assert "0 to do" in second.stdout
    assert len(attempts(tmp_path)) == 3

    more = typed("sweep.arms=[uniform,causal,fixed_50]", "sweep.seeds=1")
    assert more.returncode == 0
    assert "1 run done" in more.stdout
    assert len(attempts(tmp_path)) == 4


@pytest.mark.slow
def test_one_arm_runs_in_process(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert launch.main(command("executor=debug", "scale=demo", "sweep.arms=[uniform]", "sweep.seeds=1")[2:]) == 0
    assert len(results(tmp_path)) == 2
    assert "Nothing can be concluded" in (tmp_path / "reports/prefix_ratio/report.md").read_text()


@pytest.mark.slow
def test_two_launches_at_once_never_run_one_run_twice(command, tmp_path):
    asked = command("sweep.arms=[uniform]", "sweep.seeds=2")
    both = [
        subprocess.Popen(asked, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=540)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(outputs)
    assert len(results(tmp_path)) == 4
    for run in (tmp_path / "runs").glob("v1-*"):
        metrics = [path for path in run.glob("attempts/*/metrics.jsonl") if path.stat().st_size]
        assert len(list(run.glob("attempts/*"))) == 1, f"{run.name} was tried twice"
        assert len(metrics) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_sweep_goes_on_with_what_is_missing(command, typed, tmp_path, end):
    asked = ("sweep.arms=[uniform]", "sweep.seeds=2", "budget.samples=1024")
    process = subprocess.Popen(
        command(*asked),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not results(tmp_path):
        assert time.monotonic() < deadline, "no run finished"
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)
    if end == signal.SIGINT:
        process.send_signal(signal.SIGINT)  # the launcher alone, as a process manager would
    else:
        os.killpg(process.pid, signal.SIGKILL)  # everything at once, without a word
    output = process.communicate(timeout=60)[0]
    if end == signal.SIGINT:
        assert process.returncode == 130, output
        assert "does what is missing" in output
        assert "Traceback" not in output
    before = {path: path.stat().st_mtime_ns for path in results(tmp_path)}
    assert 1 <= len(before) < 4

    again = typed(*asked)
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"{4 - len(before)} to do" in again.stdout
    assert len(results(tmp_path)) == 4
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in before.items())


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(command, tmp_path):
    """The other worker, or a new one, does its run; the launch ends well."""
    asked = command("sweep.arms=[uniform]", "sweep.seeds=2", "budget.samples=1024")
    process = subprocess.Popen(asked, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 300
    while not (holders := list(tmp_path.glob("runs/*/attempts/*/holder.json"))):
        assert time.monotonic() < deadline, "no run started"
        time.sleep(0.1)
    time.sleep(1)
    os.kill(json.loads(holders[0].read_text())["pid"], signal.SIGKILL)
    output = process.communicate(timeout=540)[0]
    assert process.returncode == 0, output
    assert "a worker ended early" in output
    assert len(results(tmp_path)) == 4
    assert len(attempts(tmp_path)) == 5


@pytest.mark.slow
def test_a_failed_run_is_named_retried_once_a_launch_and_shown_in_the_report(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    broken = ("sweep.arms=[uniform]", "sweep.seeds=1", "optimizer.peak_lr=1e30", "optimizer.warmup_fraction=0.01")
    for number in (1, 2):
        assert launch.main(command("executor=debug", *broken)[2:]) == 1
        shown = capsys.readouterr()
        assert "failed, not finite:" in shown.out
        assert "Traceback" not in shown.out + shown.err
        tried = [path for path in attempts(tmp_path) if (path / "failure.json").exists()]
        assert len(tried) == number
    assert "failed, not finite" in (tmp_path / "reports/prefix_ratio/report.md").read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("sweep.arms=[casual]",), "unknown arm 'casual'. Did you mean 'causal'?"),
        (("objective.name=image_only",), "compares caption_loss, which is not applicable to objective image_only"),
        (("objective.name=clip",), "prefix.law='fixed' with attention='bidirectional' in the encoder"),
        (("objective.name=caption", "model.decoder.order=text_first"), "which predicts captions from images: only"),
        (("sweep.seeds=[]",), "must name at least one, and each once"),
        (("sweep.seeds=[0,0]",), "must name at least one, and each once"),
        (("sweep.seeds=few",), "sweep.seeds: few must be a number of seeds, at least 1, or a list"),
        (("model.encoder.num_heads=5",), "width=96 is not divisible by num_heads=5"),
        (("budget.sample=64",), "Did you mean 'budget.samples'?"),
        (("seed=1",), "seed=1 changes nothing: sweep.seeds names the seeds"),
        (("ranks=2",), "ranks=2 takes executor=slurm: a local worker is a process of its own"),
        (("model.image_px=32",), "model.image_px=32 changes nothing: scale=demo has that already"),
        (("model.encoder.attention=prefix",), "attention=prefix changes nothing: left at auto it comes to that"),
        (("sweep.seeds=4",), "sweep.seeds=4 changes nothing: sweep prefix_ratio has that already"),
        (("sweep.equal=samples",), "sweep.equal=samples changes nothing: sweep prefix_ratio has that already"),
        (("sweep.equal=epochs",), "sweep.equal: Input should be 'samples', 'flops' or 'seconds'"),
        (("sweep.baseline=casual",), "unknown sweep.baseline 'casual'. Did you mean 'causal'?"),
        (("sweep.controls=[positive]",), "sweep.controls.0: Input should be 'null_control' or 'positive_control'"),
        (
            ("sweep.primary_metric=recall",),
            "unknown sweep.primary_metric 'recall'. Allowed: caption_bits, ",
        ),
        (("sweep.arm=[uniform]",), "unknown key 'sweep.arm'. Did you mean 'sweep.arms'?"),
        (("sweep.design=ladder",), "sweep.design is not set on a command line: arms are Python, in ablations/prefix_r"),
        (("sweep.arms.causal=fixed",), "sweep.arms.causal is not set on a command line: arms are Python"),
        (("sweep.expected.uniform=better",), "sweep.expected.uniform: it is the baseline, with which the others are"),
        (("sweep.expected.causal=good",), "sweep.expected.causal: Input should be 'better', 'worse' or 'equal'"),
        (("sweep.claims.prefix=[]",), "unknown key 'sweep.claims.prefix'. Did you mean 'sweep.claims.prefix-beats"),
        (
            (f"sweep.claims.prefix-beats-causal=[{SEEN.replace('causal', 'casual')}]",),
            "unknown arm of sweep.claims.prefix-beats-causal 'casual'. Did you mean 'causal'?",
        ),
        (
            (f"sweep.claims.prefix-beats-causal=[{SEEN.replace('caption_loss', 'recall')}]",),
            "unknown metric of sweep.claims.prefix-beats-causal 'recall'",
        ),
        (("++model.decoder.width=96",), "cannot use '++model.decoder.width=96': one plain key=value"),
        (("+model.decoder.width=96",), "cannot use '+model.decoder.width=96': one plain key=value"),
        (
            ("prefix.law=fixed", "prefix.fraction=0.3", "objective.supervise_eos=true"),
            "prefix.law=fixed prefix.fraction=0.3 changes nothing: every arm of the sweep sets its own prefix",
        ),
        (("budget=1s",), "times budget=1s; nothing was started"),
        (("budget=0s",), "budget=0s: '0s' must be above 0"),
        (("budget=1MB",), "times budget=1MB; nothing was started"),
        (("budget=soon",), "budget=soon: cannot read 'soon'; a number and one of s, min"),
        (("prefix.law=fixed", "prefix.fraction=0.3"), "changes nothing: every arm of the sweep sets its own prefix"),
        (("prefix={law:causal}",), "cannot use 'prefix={law:causal}': prefix is a group of keys"),
        (("executor.workers=1", "executor.workers=2"), "executor.workers= is given twice"),
        (("debug=perhaps",), "debug: Input should be a valid boolean"),
        (("data.tokenizer=nowhere.json",), "data.tokenizer='nowhere.json' is not a readable tokenizer.json"),
        (("model.vocab_size=100",), "more than model.vocab_size=100"),
        (("threads=1000",), "cores have room for at threads=1000"),
        (("prefix.law=fixed", "prefix.fraction=0"), "must be above 0 and below 1"),
        (("executor=slrum",), "unknown executor 'slrum'"),
        (("executor.workers=1000",), "executor.workers=1000 is more than the"),
        (("runs_dir=/proc/nowhere",), "runs_dir='/proc/nowhere' cannot be written"),
        (("reports_dir=/proc/nowhere",), "reports_dir='/proc/nowhere' cannot be written"),
        (("dry_run=perhaps",), "dry_run: "),
    ],
)
def test_bad_input_gets_one_sentence_and_runs_nothing(command, tmp_path, monkeypatch, capsys, more, message):
    monkeypatch.chdir(tmp_path)
    assert launch.main(command(*more)[2:]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not attempts(tmp_path)


@pytest.mark.parametrize(
    ("more", "useless"),
    [
        (("objective.pixel_weight=0.1", "objective.supervise_eos=true"), "objective.pixel_weight=0.1"),
        (("objective.supervise_eos=true", "objective.pixel_weight=0.1"), "objective.pixel_weight=0.1"),
        (("objective.supervise_eos=true", "model.encoder.width=96"), "model.encoder.width=96"),
        (("objective.supervise_eos=true",), None),
    ],
)
def test_each_override_must_change_something_by_itself(command, tmp_path, monkeypatch, capsys, more, useless):
    monkeypatch.chdir(tmp_path)
    status = launch.main([*command(*more, sweep="loss_weight")[2:], "dry_run=true"])
    error = capsys.readouterr().err
    assert status == (0 if useless is None else 2), error
    if useless is not None:
        assert f"{useless} changes nothing" in error


def test_overrides_reach_what_a_study_says_of_itself(command):
    said = (
        "sweep.question='Which?'",
        "sweep.source=ours",
        "sweep.expected.causal=better",
        f"sweep.claims.prefix-beats-causal=[{SEEN}]",
        "sweep.claims.uniform-prefix-length=[]",
    )
    study = launch.read([*command(*said)[2:], "dry_run=true"]).request.study
    assert (study.question, study.source, study.expected["causal"]) == ("Which?", "ours", "better")
    (seen,) = study.claims["prefix-beats-causal"]
    assert (seen.arm, seen.relation, seen.than_arm) == ("causal", "worse", "uniform")
    assert "uniform-prefix-length" not in study.claims


@pytest.mark.parametrize("slug", STUDIES)
def test_a_study_lies_where_its_arms_are_said_to_be(slug):
    assert STUDIES[slug] is importlib.import_module(f"ablations.{slug}").STUDY


def test_an_unknown_sweep_is_named(tmp_path):
    for arguments, message in (
        (["sweep=prefix"], "unknown sweep 'prefix'. Did you mean 'prefix_ratio'?"),
        (["seed=1"], "which sweep?"),
    ):
        refused = subprocess.run(
            [sys.executable, str(LAUNCH), *arguments], cwd=tmp_path, capture_output=True, text=True
        )
        assert refused.returncode == 2
        assert message in refused.stderr


def test_a_missing_data_package_stops_the_launch_before_any_run(tmp_path):
    """The package is hidden from the launcher by a module of its name that cannot be imported."""
    (tmp_path / "fonticon_mdi7.py").write_text("raise ImportError('hidden')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(LAUNCH.parents[1])])}
    refused = subprocess.run(
        [sys.executable, str(LAUNCH), "sweep=prefix_ratio", "data.sources=[material]"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "data source 'material' needs the package 'fonticon_mdi7'" in refused.stderr
    assert "pip install 'aimv2-ablations[glyphs]'" in refused.stderr
    assert not attempts(tmp_path)
