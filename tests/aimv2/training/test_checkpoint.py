"""A run that was stopped, however often and wherever, ends bitwise as one that was not."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from aimv2.config.run_config import CheckpointConfig, LogConfig, from_dict
from aimv2.config.signature import signature
from aimv2.data.batches import TrainBatches
from aimv2.execute import execute
from aimv2.model.network import build
from aimv2.runs.files import read_json
from aimv2.runs.interrupt import Interrupts
from aimv2.runs.lease import LeaseLostError
from aimv2.runs.record import RunFolder
from aimv2.runs.rows import read_rows
from aimv2.training import checkpoint
from aimv2.training.loop import train
from aimv2.training.optimizer import build_optimizer
from tests.helpers.training import changed
from tests.helpers.training import run as untouched

NUM_STEPS = 6
OBJECTIVES = ("aimv2", "siglip", "clip", "cappa")


def held_out(model):
    """A value that depends on every weight."""
    return {"held_out_caption_loss": sum(float(weight.detach().square().sum()) for weight in model.parameters())}


def computed(rows):
    """Without what a clock measured."""
    return [
        {name: value for name, value in row.items() if name not in ("seconds", "images_per_second")} for row in rows
    ]


def same(state, other):
    return state.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in state.items())


@pytest.fixture(scope="module")
def long(tiny, with_samples):
    """The tiny run over a few more steps, with an objective."""

    def build(name="aimv2", **changes):
        config = with_samples(changed(tiny, {"objective.name": name}), NUM_STEPS * tiny.budget.batch_size)
        return replace(config, evaluation=replace(config.evaluation, curve_points=3), **changes)

    return build


@pytest.fixture(scope="module")
def references(long, pairs):
    """An untouched run of each objective: final weights, rows, training FLOPs."""
    done = {name: untouched(long(name), pairs, held_out=held_out) for name in OBJECTIVES}
    return {name: (model.state_dict(), rows, flops) for name, (model, rows, flops) in done.items()}


class Signalling(TrainBatches):
    """Batches of which one is prepared while a signal comes."""

    stop_in: int | None = None

    def __getitem__(self, step):
        if step == self.stop_in:
            os.kill(os.getpid(), signal.SIGUSR2)
        return super().__getitem__(step)


def attempted(run, config, pairs, *, stop_in=None):
    """One attempt at the training, stopped in a step or not: the model, training FLOPs (None if stopped), folder."""
    model, batches, interrupts = build(config), Signalling(config, pairs[0], pairs[2]), Interrupts()
    batches.stop_in = stop_in
    flops = None
    attempt = run.acquire(config)
    try:
        with attempt, interrupts.listening():
            start = checkpoint.find(attempt.earlier())
            if start is not None:
                attempt.resume_from(start.rows, seconds=start.progress.seconds, cpu_seconds=start.progress.cpu_seconds)
            with interrupts.deferred():
                flops = train(
                    config,
                    model,
                    batches,
                    attempt=attempt,
                    held_out=held_out,
                    on_rows=lambda rows: None,
                    start=start,
                    interrupts=interrupts,
                    keep=checkpoint.keeper(attempt),
                )
    except KeyboardInterrupt:
        assert stop_in is not None
    return model, flops, attempt.folder


@pytest.mark.parametrize("name", OBJECTIVES)
@settings(max_examples=8, deadline=None)
@given(
    stops=st.sets(st.integers(0, NUM_STEPS - 1), min_size=1, max_size=3).map(sorted),
    every_steps=st.integers(1, 4),
    num_workers=st.sampled_from([0, 0, 0, 1]),
)
def test_however_often_it_is_stopped_it_ends_as_if_untouched(
    long, pairs, references, tmp_path_factory, name, stops, every_steps, num_workers
):
    config = long(name, log=LogConfig(every_steps=every_steps))
    run = RunFolder(tmp_path_factory.mktemp("runs"), signature(config))
    for stop in stops:
        assert attempted(run, config, pairs, stop_in=stop)[1] is None
    rest = replace(config, loader=replace(config.loader, num_workers=num_workers))
    model, flops, folder = attempted(run, rest, pairs)
    weights, rows, expected_flops = references[name]
    assert same(model.state_dict(), weights)
    assert computed(read_rows(folder)) == computed(rows)
    assert [row["seconds"] for row in read_rows(folder)] == sorted(row["seconds"] for row in read_rows(folder))
    assert flops == expected_flops
    assert run.num_attempts == len(stops) + 1
    assert run.num_tries == 1, "to be stopped is no failure"


@pytest.mark.parametrize("name", ["aimv2", "siglip"])
def test_a_whole_run_that_was_stopped_reports_the_same(long, tmp_path, name):
    config = long(name)
    whole, parted = (RunFolder(tmp_path / kind, signature(config)) for kind in ("whole", "parted"))
    assert execute(whole.acquire(config), config) is None

    def stop(rows):
        if rows[-1]["step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with Interrupts().listening() as interrupts, pytest.raises(KeyboardInterrupt):
        execute(parted.acquire(config), config, stop, interrupts)
    assert parted.state() == "new"
    assert (parted.path / "attempts/0001/checkpoint.safetensors").exists()
    assert execute(parted.acquire(config), config) is None

    assert parted.result()["metrics"] == whole.result()["metrics"]
    assert parted.result()["train_flops"] == whole.result()["train_flops"]
    assert same(load_file(parted.file("weights.safetensors")), load_file(whole.file("weights.safetensors")))
    assert list(parted.metrics()["step"]) == list(range(NUM_STEPS + 1))
    assert read_json(parted.file("manifest.json"))["resumed"] == {"attempt": 1, "step": 2}
    assert read_json(whole.file("manifest.json"))["resumed"] is None
    assert not list(tmp_path.rglob("*checkpoint*")), "nobody needs them any more"
    assert parted.result()["seconds"] > parted.metrics()["seconds"].iloc[-1] > parted.metrics()["seconds"].iloc[2]


@pytest.mark.slow
def test_a_process_that_is_stopped_and_then_killed_goes_on_bitwise(tmp_path, cache_dir):
    """SIGTERM, then kill -9, each in the middle of the training, as it is typed."""
    command = [
        *(sys.executable, "-m", "aimv2", "train", f"data.cache_dir={cache_dir}", "data.sources=[fontawesome,openmoji]"),
        *("budget.samples=3200", "budget.batch_size=8", "model.image_px=16", "data.render_px=24", "model.patch_px=4"),
        *("model.encoder.depth=1", "model.decoder.depth=1", "evaluation.num_pairs=32", "evaluation.curve_pairs=16"),
        *("evaluation.curve_points=2", "evaluation.probe.epochs=1", "checkpoint.every_seconds=0.2"),
    ]  # fmt: skip
    for attempt, (number, status) in enumerate([(signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)], start=1):
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 120
        while not (kept := list(tmp_path.glob(f"runs/*/attempts/{attempt:04d}/checkpoint.safetensors"))):
            assert time.monotonic() < deadline, "no checkpoint"
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.01)
        time.sleep(0.3)
        process.send_signal(number)
        output = process.communicate()[0]
        assert process.returncode == status, output
        assert (b"from the last checkpoint on" in output) == (number == signal.SIGTERM)
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stdout + again.stderr

    name = kept[0].parents[2].name
    parted, config = RunFolder(tmp_path / "runs", name), from_dict(read_json(kept[0].parents[2] / "config.json"))
    step = read_json(parted.file("manifest.json"))["resumed"]["step"]
    assert 0 < step < config.budget.num_steps
    stopped_at = read_json(kept[0].parent / "manifest.json")["resumed"]["step"]
    first_rows = read_rows(kept[0].parents[1] / "0001")
    assert first_rows[-1]["step"] == stopped_at < step, "SIGTERM loses nothing"
    whole = RunFolder(tmp_path / "untouched", name)
    assert execute(whole.acquire(config), config) is None
    assert same(load_file(parted.file("weights.safetensors")), load_file(whole.file("weights.safetensors")))
    rows = [run.metrics().drop(columns=["seconds", "images_per_second"]).to_dict("records") for run in (parted, whole)]
    assert json.dumps(rows[0]) == json.dumps(rows[1])  # as text, in which nan equals nan
    assert parted.result()["metrics"] == whole.result()["metrics"]


def test_a_checkpoint_is_kept_by_the_clock(long, pairs, tmp_path, monkeypatch):
    steps = []
    monkeypatch.setattr(
        "aimv2.training.checkpoint.keep", lambda folder, model, optimizer, progress: steps.append(progress.step)
    )
    for seconds in (60.0, 1e-9):
        config = long(log=LogConfig(every_steps=4), checkpoint=CheckpointConfig(every_seconds=seconds))
        attempted(RunFolder(tmp_path / str(seconds), signature(config)), config, pairs)
    assert steps == [NUM_STEPS, *range(1, NUM_STEPS + 1)], "the first run is over before a minute is"


@pytest.fixture
def stopped(long, pairs, tmp_path):
    """A run with two attempts, stopped after steps 2 and 4."""
    config = long()
    run = RunFolder(tmp_path, signature(config))
    folders = [attempted(run, config, pairs, stop_in=stop)[2] for stop in (1, 3)]
    return run, config, folders[::-1]


def test_rows_after_the_checkpoint_are_measured_again_and_half_a_line_is_nothing(stopped, pairs, references):
    """What a kill leaves: rows that are newer than the checkpoint, and one that was being written."""
    run, config, (newest, _) = stopped
    with (newest / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 5, "text_loss": 0.5}\n{"step": 6, "text')
    model, _, folder = attempted(run, config, pairs)
    assert computed(read_rows(folder)) == computed(references["aimv2"][1])
    assert same(model.state_dict(), references["aimv2"][0])


def test_the_newest_that_fits_is_found(stopped, capsys):
    _, _, folders = stopped
    assert checkpoint.find(folders).progress.step == 4
    content = (folders[0] / checkpoint.FILE).read_bytes()
    (folders[0] / checkpoint.FILE).write_bytes(content[: len(content) // 2])
    assert checkpoint.find(folders).progress.step == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{folders[0] / checkpoint.FILE} is not used: ")
    assert said.count("\n") == 1
    (folders[1] / checkpoint.FILE).unlink()
    assert checkpoint.find(folders) is None


def test_no_damage_to_a_file_goes_unnoticed(stopped):
    _, _, (folder, _) = stopped
    path = folder / checkpoint.FILE
    content = path.read_bytes()

    @settings(max_examples=100, deadline=None)
    @given(place=st.integers(0, len(content) - 1) | st.integers(0, 4000), bit=st.integers(0, 7))
    def damaged(place, bit):
        changed = bytearray(content)
        changed[place] ^= 1 << bit
        path.write_bytes(changed)
        found = checkpoint.find([folder])
        assert found is None

    damaged()


def test_a_checkpoint_of_something_else_is_named_and_not_used(stopped, monkeypatch, capsys, tmp_path):
    _, _, (folder, _) = stopped
    before = torch.__version__
    with monkeypatch.context() as patched:
        patched.setattr(torch, "__version__", "2.0.0")
        assert checkpoint.find([folder]) is None
        assert f"it is of torch {before}, and this is 2.0.0" in capsys.readouterr().err
        patched.undo()
        patched.setattr(checkpoint, "digest", lambda: "0123456789ab")
        assert checkpoint.find([folder]) is None
        assert "and this is 0123456789ab" in capsys.readouterr().err
    foreign = tmp_path / "v1-000000000000" / "attempts" / "0001"
    foreign.parent.mkdir(parents=True)
    folder.rename(foreign)
    assert checkpoint.find([foreign]) is None
    assert "it is of run v1-" in capsys.readouterr().err
    (foreign / checkpoint.FILE).write_bytes(b"")
    assert checkpoint.find([foreign]) is None


def test_a_checkpoint_whose_rows_are_lost_is_not_used(stopped, capsys):
    _, _, folders = stopped
    (folders[0] / "metrics.jsonl").write_text('{"step": 0}\n{"step": 1}\n')
    assert checkpoint.find(folders).progress.step == 2
    assert "lack steps before 4" in capsys.readouterr().err


def test_a_disk_without_room_leaves_the_older_checkpoint_and_says_so(stopped):
    _, config, (folder, _) = stopped
    model = build(config)
    before = (folder / checkpoint.FILE).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 8, hard))  # the kernel refuses what is beyond
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoint.keep(folder, model, build_optimizer(model, config.optimizer), checkpoint.Progress(step=5))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (folder / checkpoint.FILE).read_bytes() == before
    assert not (folder / checkpoint.PARTIAL).exists()


def test_whoever_the_umask_lets_reads_a_checkpoint(tiny, assert_shared, tmp_path):
    model = build(tiny)
    for step in (1, 2):  # the second is written in place of the first
        checkpoint.keep(tmp_path, model, build_optimizer(model, tiny.optimizer), checkpoint.Progress(step=step))
    assert (tmp_path / checkpoint.FILE).exists()
    assert_shared(tmp_path)


def test_who_lost_the_run_keeps_no_checkpoint(long, pairs, tmp_path):
    config = long(checkpoint=CheckpointConfig(every_seconds=1e-9))
    run = RunFolder(tmp_path, signature(config))
    taken = []

    def take_over(rows):
        if rows[-1]["step"] == 2:
            (tmp_path / signature(config) / "attempts/0001/released").touch()
            before = (tmp_path / signature(config) / "attempts/0001" / checkpoint.FILE).read_bytes()
            taken.append((run.acquire(config), before))

    sleeper = run.acquire(config)
    with sleeper, pytest.raises(LeaseLostError):
        train(
            config,
            build(config),
            TrainBatches(config, pairs[0], pairs[2]),
            attempt=sleeper,
            held_out=held_out,
            on_rows=take_over,
            keep=checkpoint.keeper(sleeper),
        )
    assert (sleeper.folder / checkpoint.FILE).read_bytes() == taken[0][1]
