"""A run that is interrupted and resumed, however often, ends bitwise like one that is not."""

import contextlib
import functools
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, wait
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from aimv2.base.errors import RunFailedError
from aimv2.base.files import read_json
from aimv2.base.interrupt import Interrupts
from aimv2.config.run_config import RunConfig
from aimv2.config.training_config import LogConfig
from aimv2.data.batches.training import TrainBatches
from aimv2.definitions.objectives import objective
from aimv2.evaluation.evaluate import evaluate
from aimv2.objectives.build import build
from aimv2.run.execute import execute
from aimv2.runs.lease import LeaseLostError
from aimv2.runs.record import RunFolder
from aimv2.runs.rows import OF_MACHINE, read_rows
from aimv2.training import checkpoint
from aimv2.training.checkpoint import Saver, SaveTimer
from aimv2.training.loop import train
from aimv2.training.optimizer import build_optimizer
from aimv2.training.shards import read_about, write_about
from aimv2.training.world import ALONE, World
from tests.helpers.files import files_limited_to
from tests.helpers.marks import everyday
from tests.helpers.native import at_native
from tests.helpers.training import Clock, Rows, changed, small_run
from tests.helpers.training import run as uninterrupted

NUM_STEPS = 6
OBJECTIVES = ("aimv2", "siglip", "cappa")
without_probes = partial(evaluate, transfer=lambda *data: [])


def held_out(model):
    """Return a value that depends on every weight."""
    return {"held_out_caption_loss": sum(float(weight.detach().square().sum()) for weight in model.parameters())}


def computed(rows):
    """Drop the columns that depend on the machine and its load."""
    return [{name: value for name, value in row.items() if name not in OF_MACHINE} for row in rows]


def same(state, other):
    return state.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in state.items())


@pytest.fixture(scope="module")
def long(tiny, with_samples):
    """The tiny run over a few more steps, with a given objective."""

    def build(name="aimv2", **changes):
        config = with_samples(changed(tiny, {"objective.name": name}), NUM_STEPS * tiny.budget.batch_size)
        return replace(config, evaluation=replace(config.evaluation, curve_points=3), **changes)

    return build


@pytest.fixture(scope="module")
def reference(long, pairs):
    """An uninterrupted run of an objective: final weights, rows, training FLOPs."""

    @functools.cache
    def run_of(name):
        model, rows, flops = uninterrupted(long(name), pairs, held_out=held_out)
        return model.state_dict(), rows, flops

    return run_of


class Signalling(TrainBatches):
    """Batches that send this process a signal while one of them is prepared."""

    signal_in: int | None = None

    def part(self, step, images):
        if step == self.signal_in:
            signal.raise_signal(signal.SIGUSR2)
        return super().part(step, images)


def trained_on(pairs, config, model, attempt, *, signal_in=None, **more):
    batches = Signalling(config, pairs.train, pairs.tokenizer)
    batches.signal_in = signal_in
    return train(config, objective(config.objective.name), model, batches, attempt=attempt, **more)


def attempted(run, config, pairs, *, signal_in=None, **more):
    """Train in one attempt and return model, training FLOPs (None if interrupted) and folder."""
    model, attempt, interrupts, trained = build(config), run.acquire(config), Interrupts(), None
    save, timer = partial(checkpoint.save_attempt, attempt, ALONE), SaveTimer(config.checkpoint.every_seconds)
    more |= {"signal_in": signal_in, "interrupts": interrupts, "held_out": held_out}
    try:
        with attempt, interrupts.listening(), Saver(save, timer) as saver:
            start = checkpoint.resume(attempt)
            with interrupts.deferred():
                trained = trained_on(pairs, config, model, attempt, start=start, saver=saver, **more)
    except KeyboardInterrupt:
        assert signal_in is not None
    return model, None if trained is None else trained.flops, attempt.folder


@pytest.mark.parametrize("name", everyday(["aimv2"], OBJECTIVES))
@settings(max_examples=5)
@given(
    stops=st.sets(st.integers(0, NUM_STEPS - 1), min_size=1, max_size=3).map(sorted),
    every_steps=st.integers(1, 4),
    num_workers=st.sampled_from([0, 0, 0, 1]),
)
def test_interrupted_run_ends_like_an_uninterrupted_one(
    long, pairs, reference, tmp_path_factory, name, stops, every_steps, num_workers
):
    config = long(name, log=LogConfig(every_steps=every_steps))
    run = RunFolder(tmp_path_factory.mktemp("runs"), config.name)
    for stop in stops:
        assert attempted(run, config, pairs, signal_in=stop)[1] is None
    rest = replace(config, loader=replace(config.loader, num_workers=num_workers))
    model, flops, folder = attempted(run, rest, pairs)
    weights, rows, expected_flops = reference(name)
    assert same(model.state_dict(), weights)
    assert computed(read_rows(folder)) == computed(rows)
    assert [row["seconds"] for row in read_rows(folder)] == sorted(row["seconds"] for row in read_rows(folder))
    assert flops == expected_flops
    assert run.num_attempts == len(stops) + 1
    had_no_step_left = stops[-1] == NUM_STEPS - 1
    assert run.num_stalled() == had_no_step_left, "every other attempt saved a checkpoint"


def test_interrupted_native_run_ends_like_an_uninterrupted_one(long, pairs, tmp_path):
    config = at_native(long())
    run = RunFolder(tmp_path / "runs", config.name)
    for stop in (1, 3):
        assert attempted(run, config, pairs, signal_in=stop)[1] is None
    model, flops, folder = attempted(run, config, pairs)
    expected, rows, expected_flops = uninterrupted(config, pairs, held_out=held_out)
    assert same(model.state_dict(), expected.state_dict())
    assert computed(read_rows(folder)) == computed(rows)
    assert flops == expected_flops == rows[-1]["train_flops"]
    spent = [row["train_flops"] for row in rows]
    assert len({after - before for before, after in pairwise(spent)}) > 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["aimv2", "siglip"])
def test_interrupted_run_reports_the_same_result(long, tmp_path, name):
    config = long(name)
    whole, parted = (RunFolder(tmp_path / kind, config.name) for kind in ("whole", "parted"))
    assert execute(whole.acquire(config), config, evaluate=without_probes) is None

    def stop(rows):
        if rows[-1]["step"] == 2:
            signal.raise_signal(signal.SIGTERM)

    with Interrupts().listening() as interrupts, pytest.raises(KeyboardInterrupt):
        execute(parted.acquire(config), config, stop, interrupts)
    assert parted.state() == "new"
    assert (parted.path / "attempts/0001/checkpoint").exists()
    assert execute(parted.acquire(config), config, evaluate=without_probes) is None

    assert parted.result()["metrics"] == whole.result()["metrics"]
    assert parted.result()["train_flops"] == whole.result()["train_flops"]
    assert same(load_file(parted.file("weights.safetensors")), load_file(whole.file("weights.safetensors")))
    assert list(parted.metrics()["step"]) == list(range(NUM_STEPS + 1))
    assert read_json(parted.file("manifest.json"))["resumed"] == {"attempt": 1, "step": 2}
    assert read_json(whole.file("manifest.json"))["resumed"] is None
    for run, steps in ((parted, {1: 0, 2: 2}), (whole, {1: 0})):
        rests_on = run.result()["attempts"]
        assert {found["attempt"]: found["from_step"] for found in rests_on} == steps
        place = read_json(run.file("manifest.json"))
        assert all(found[name] == place[name] for found in rests_on for name in ("host", "hardware", "threads", "code"))
    assert not list(tmp_path.rglob("*checkpoint*")), "checkpoints of a finished run are deleted"
    assert parted.result()["seconds"] > parted.metrics()["seconds"].iloc[-1] > parted.metrics()["seconds"].iloc[2]
    assert parted.result()["train_cpu_seconds"] == pytest.approx(parted.metrics()["step_cpu_seconds"].sum())


@pytest.mark.exhaustive
def test_process_that_is_interrupted_and_then_killed_resumes_bitwise(tmp_path, cache_dir):
    arguments = small_run(cache_dir, "budget.samples=3200", "checkpoint.every_seconds=0.2")
    command = [sys.executable, "-m", "aimv2", "train", *arguments]
    for attempt, (number, status) in enumerate([(signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)], start=1):
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        while not (saved := list(tmp_path.glob(f"runs/*/attempts/{attempt:04d}/checkpoint/*"))):
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.01)
        process.send_signal(number)
        output = process.communicate()[0]
        assert process.returncode == status, output
        assert (b"Run the same command to resume" in output) == (number == signal.SIGTERM)
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr

    name, folder = saved[0].parents[3].name, saved[0].parents[1]
    parted, config = (
        RunFolder(tmp_path / "runs", name),
        RunConfig.from_dict(read_json(saved[0].parents[3] / "config.json")),
    )
    step = read_json(parted.file("manifest.json"))["resumed"]["step"]
    assert 0 < step < config.budget.num_steps
    stopped_at = read_json(folder / "manifest.json")["resumed"]["step"]
    first_rows = read_rows(folder.with_name("0001"))
    assert first_rows[-1]["step"] == stopped_at < step, "SIGTERM loses no step"
    whole = RunFolder(tmp_path / "whole", name)
    assert execute(whole.acquire(config), config) is None
    assert same(load_file(parted.file("weights.safetensors")), load_file(whole.file("weights.safetensors")))
    rows = [run.metrics().drop(columns=list(OF_MACHINE), errors="ignore").to_dict("records") for run in (parted, whole)]
    assert json.dumps(rows[0]) == json.dumps(rows[1])  # as text, in which nan equals nan
    assert parted.result()["metrics"] == whole.result()["metrics"]


@pytest.mark.exhaustive
def test_eight_interrupted_attempts_leave_one_checkpoint(long, with_samples, pairs, tmp_path):
    config = with_samples(long(), 9 * long().budget.batch_size)
    run, mapped = RunFolder(tmp_path, config.name), []

    def look(rows):
        mapped.extend(line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line)

    for stop in range(8):
        *_, folder = attempted(run, config, pairs, signal_in=stop, on_rows=look)
        killed = folder / checkpoint.PARTIAL / "half"  # a process that is killed while it saves leaves such a file
        killed.parent.mkdir()
        killed.write_bytes(b"half")
    assert [path.parent.name for path in run.path.rglob(checkpoint.FOLDER)] == ["0008"]
    assert [path.parents[1].name for path in run.path.rglob("half")] == ["0008"]
    assert checkpoint.find([folder]).progress.step == 8
    assert mapped == [], "a mapped file keeps its space on the disk after it is deleted"


@pytest.mark.parametrize(("name", "value"), [("torch", "2.0.0"), ("code", "0123456789ab")])
def test_checkpoints_of_other_code_stay_until_the_run_is_done(long, pairs, tmp_path, name, value):
    config = long()
    run = RunFolder(tmp_path, config.name)
    first = attempted(run, config, pairs, signal_in=0)[2]
    saved_by(first, name, value)
    second = attempted(run, config, pairs, signal_in=1)[2]
    assert (first / checkpoint.FOLDER).exists()
    third = attempted(run, config, pairs, signal_in=2)[2]
    assert [(folder / checkpoint.FOLDER).exists() for folder in (first, second, third)] == [True, False, True]
    assert execute(run.acquire(config), config, evaluate=without_probes) is None
    assert not list(run.path.rglob(checkpoint.FOLDER))


def saved_in(folder):
    """Return the one checkpoint of an attempt."""
    (path,) = (folder / checkpoint.FOLDER).iterdir()
    return path


def shard_in(folder):
    """Return the one shard of an attempt's checkpoint."""
    (path,) = saved_in(folder).glob("*.safetensors")
    return path


def content_of(folder):
    """Return the content of each file of an attempt's checkpoint."""
    path = saved_in(folder)
    return {one.relative_to(folder): one.read_bytes() for one in path.iterdir()}


def saved_by(folder, name, value):
    """Rewrite an attempt's checkpoint as that of another run, code or torch."""
    path = saved_in(folder)
    described = read_about(path)
    write_about(path, described._replace(about=described.about | {name: value}))


class Refusing:
    """Saves the checkpoints of an attempt, but not at one step."""

    def __init__(self, attempt, step):
        self.attempt, self.step, self.saved = attempt, step, []

    def __call__(self, model, optimizer, step, shown):
        with files_limited_to(1000 if step == self.step else 10**9):
            writing = checkpoint.save_attempt(self.attempt, ALONE, model, optimizer, step, shown)
            wait([writing])
        if writing.exception() is None:
            self.saved.append(step)
        return writing


@pytest.mark.parametrize("refused", [1, 3, NUM_STEPS])
def test_periodic_checkpoint_that_cannot_be_written_is_a_warning(long, pairs, reference, tmp_path, capsys, refused):
    config = long()
    attempt = RunFolder(tmp_path, config.name).acquire(config)
    save, model, clock = Refusing(attempt, refused), build(config), Clock()
    is_last = refused == NUM_STEPS
    saver = Saver(save, SaveTimer(1, clock))
    with attempt, pytest.raises(OSError, match="File too large") if is_last else contextlib.nullcontext():
        trained_on(pairs, config, model, attempt, held_out=held_out, saver=saver, on_rows=clock)
    assert save.saved == [step for step in range(1, NUM_STEPS + 1) if step != refused]
    assert same(model.state_dict(), reference("aimv2")[0])
    printed = capsys.readouterr().err
    assert printed.count("\n") == (0 if is_last else 1)
    assert is_last or printed.startswith(f"no checkpoint at step {refused}, training goes on: ")


@pytest.fixture
def interrupted(long, pairs, tmp_path):
    """A run with two attempts, interrupted after steps 2 and 4; their folders, newest first."""
    config = long()
    run = RunFolder(tmp_path, config.name)
    first = attempted(run, config, pairs, signal_in=1)[2]
    shutil.copytree(first / checkpoint.FOLDER, tmp_path / "kept")
    second = attempted(run, config, pairs, signal_in=3)[2]
    shutil.copytree(tmp_path / "kept", first / checkpoint.FOLDER)  # as if the second was killed before it deleted this
    return run, config, [second, first]


def test_rows_after_the_checkpoint_and_a_partial_row_are_ignored(interrupted, pairs, reference):
    run, config, (newest, _) = interrupted
    with (newest / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 5, "text_loss": 0.5}\n{"step": 6, "text')
    model, _, folder = attempted(run, config, pairs)
    assert computed(read_rows(folder)) == computed(reference("aimv2")[1])
    assert same(model.state_dict(), reference("aimv2")[0])


def test_find_returns_the_newest_usable_checkpoint(interrupted, capsys):
    _, _, folders = interrupted
    assert checkpoint.find(folders).progress.step == 4
    newest = saved_in(folders[0])
    shutil.copytree(saved_in(folders[1]), newest.with_name("000000002"))  # killed before it deleted its previous one
    assert checkpoint.find(folders[:1]).progress.step == 4
    shutil.rmtree(newest.with_name("000000002"))
    content = shard_in(folders[0]).read_bytes()
    shard_in(folders[0]).write_bytes(content[: len(content) // 2])
    assert checkpoint.find(folders).progress.step == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"{newest} is not used: ")
    assert printed.count("\n") == 1
    shutil.rmtree(folders[1] / checkpoint.FOLDER)
    assert checkpoint.find(folders) is None


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_any_damaged_bit_is_detected(interrupted, suffix):
    _, _, (folder, _) = interrupted
    (path,) = saved_in(folder).glob(f"*.{suffix}")
    content = path.read_bytes()

    @settings(max_examples=60, deadline=None)
    @given(place=st.integers(0, len(content) - 1) | st.integers(0, min(4000, len(content) - 1)), bit=st.integers(0, 7))
    def damaged(place, bit):
        changed = bytearray(content)
        changed[place] ^= 1 << bit
        path.write_bytes(changed)
        found = checkpoint.find([folder])
        assert found is None

    damaged()


DAMAGES = {
    "empty shard": (lambda folder: shard_in(folder).write_bytes(b""), "is not used: "),
    "no shard": (lambda folder: shard_in(folder).unlink(), "is not used: "),
    "another shard": (
        lambda folder: shutil.copyfile(
            shard_in(folder), saved_in(folder) / "shard-00002-model-00001-of-00001.safetensors"
        ),
        "is not used: ",
    ),
    "empty json": (lambda folder: (saved_in(folder) / "about.json").write_bytes(b""), "is not used: "),
    "json of another kind": (lambda folder: (saved_in(folder) / "about.json").write_text("[1, 2]"), "is not used: "),
    "no files": (lambda folder: [path.unlink() for path in saved_in(folder).iterdir()], "is not used: "),
    "no rows": (
        lambda folder: (folder / "metrics.jsonl").write_text('{"step": 0}\n{"step": 1}\n'),
        "lacks steps before 4",
    ),
    **{
        f"another {name}": (partial(saved_by, name=name, value=value), f"it was saved with {name}={value}, not ")
        for name, value in (("run", "v2-0123456789ab"), ("torch", "2.0.0"), ("code", "0123456789ab"))
    },
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_checkpoint_that_is_incomplete_or_of_another_run_or_code_is_not_used(interrupted, capsys, damage, message):
    _, _, folders = interrupted
    damage(folders[0])
    assert checkpoint.find(folders).progress.step == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_full_disk_keeps_the_previous_checkpoint(interrupted):
    _, config, (folder, _) = interrupted
    before, model, limit = content_of(folder), build(config), shard_in(folder).stat().st_size // 8
    optimizer, progress = build_optimizer(model, config.optimizer), checkpoint.Progress(step=5)
    with files_limited_to(limit), pytest.raises(OSError, match="File too large") as caught:
        checkpoint.save(folder, model, optimizer, progress).result()
    assert str(caught.value).startswith(f"{folder / checkpoint.FOLDER / '000000005'} cannot be written: ")
    assert content_of(folder) == before
    assert not (folder / checkpoint.PARTIAL).exists()


OPTIMIZERS = {
    "adamw": lambda groups: torch.optim.AdamW(groups, fused=True),
    "not fused": lambda groups: torch.optim.AdamW(groups),
    "one moment": lambda groups: torch.optim.SGD(groups, 0.1, momentum=0.9),
    "no moment": lambda groups: torch.optim.SGD(groups, 0.1),
    "moments of other shapes": lambda groups: torch.optim.Adafactor(groups),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_any_optimizer_goes_on_from_its_state_at_the_saved_step(make, tiny, tmp_path):
    def stepped(model, optimizer):
        optimizer.zero_grad()
        sum(parameter.square().sum() for parameter in model.parameters() if parameter is not unused(model)).backward()
        optimizer.step()

    def unused(model):
        return model.encoder.patch_embed.bias

    model, is_trained = build(tiny), threading.Event()
    optimizer = make(model.parameters())
    stepped(model, optimizer)
    writing = checkpoint.save(tmp_path, model, optimizer, checkpoint.Progress(step=1), check=is_trained.wait)
    assert not writing.done()
    stepped(model, optimizer)
    is_trained.set()
    writing.result()

    again = build(tiny)
    optimizer = make(again.parameters())
    checkpoint.Checkpoint(saved_in(tmp_path), 1, checkpoint.Progress(), []).restore(again, optimizer)
    assert not optimizer.state[unused(again)]
    stepped(again, optimizer)
    assert same(again.state_dict(), model.state_dict())


def test_checkpoint_has_the_permissions_of_the_umask(tiny, assert_shared, tmp_path):
    model = build(tiny)
    for step in (1, 2):  # the second replaces the first
        checkpoint.save(
            tmp_path, model, build_optimizer(model, tiny.optimizer), checkpoint.Progress(step=step)
        ).result()
    assert saved_in(tmp_path).name == "000000002"
    assert_shared(tmp_path)


def test_attempt_that_lost_its_lease_saves_no_checkpoint(long, pairs, tmp_path):
    config = long(log=LogConfig(every_steps=1))
    run, clock, taken = RunFolder(tmp_path, config.name), Clock(), []

    def take_over(rows):
        clock(rows)
        if rows[-1]["step"] == 2:
            (tmp_path / config.name / "attempts/0001/released").touch()
            saver.finish()
            taken.append((run.acquire(config), content_of(sleeper.folder)))

    sleeper = run.acquire(config)
    saver = Saver(partial(checkpoint.save_attempt, sleeper, ALONE), SaveTimer(1, clock))
    with sleeper, pytest.raises(LeaseLostError):
        trained_on(pairs, config, build(config), sleeper, on_rows=take_over, saver=saver)
    assert content_of(sleeper.folder) == taken[0][1]


class Writing(Future):
    """The writing of a checkpoint that ends at a time of the clock; to wait for it is to let the time pass."""

    def __init__(self, clock, seconds, error=None):
        super().__init__()
        self.clock, self.ends, self.error = clock, clock.now + seconds, error

    def done(self):
        return self.clock.now >= self.ends

    def result(self):
        self.clock.now = max(self.clock.now, self.ends)
        if self.error is not None:
            raise self.error


class Saves:
    """Saves that take time; counts the seconds for which they stalled training."""

    def __init__(self, clock, copy_seconds=0.0, write_seconds=0.0, errors=()):
        self.clock, self.copy_seconds, self.write_seconds = clock, copy_seconds, write_seconds
        self.errors, self.steps, self.most = dict(errors), [], 0
        self.writing = []

    def __call__(self, model, optimizer, step, shown):
        self.most = max(self.most, 1 + sum(not one.done() for one in self.writing))
        self.clock.now += self.copy_seconds
        self.steps.append(step)
        self.writing.append(Writing(self.clock, self.write_seconds, self.errors.get(step)))
        return self.writing[-1]


@pytest.fixture(scope="module")
def trained(tiny, with_samples, pairs):
    """Train for a few steps, of which each takes a second, with a saver."""
    config = replace(with_samples(tiny, NUM_STEPS * tiny.budget.batch_size), log=LogConfig(every_steps=1))

    def run(saver, clock, world=ALONE):
        with saver:
            trained_on(pairs, config, build(config), Rows(), on_rows=clock, world=world, saver=saver)

    return run


@pytest.mark.parametrize(
    ("every_seconds", "copy_seconds", "write_seconds", "saved"),
    [
        (100, 0, 0, [NUM_STEPS]),
        (1, 0, 0, [1, 2, 3, 4, 5, 6]),
        (3, 0, 0, [3, 6]),
        (1, 2.5 / 99, 0, [1, 4, 6]),  # the next one at least 2.5 s after the first
        (1, 50, 0, [1, 6]),
        (1, 0, 2.5, [1, 4, 6]),  # none while one is written
    ],
)
def test_the_interval_of_checkpoints_follows_the_stall_of_the_last(
    trained, every_seconds, copy_seconds, write_seconds, saved
):
    clock = Clock()
    saves = Saves(clock, copy_seconds, write_seconds)
    trained(Saver(saves, SaveTimer(every_seconds, clock)), clock)
    assert saves.steps == saved
    assert saves.most == 1
    assert all(one.done() for one in saves.writing), "training ends when the last one is written"


@pytest.mark.exhaustive
@given(
    every_seconds=st.floats(0.1, 1000),
    times=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1e5)), min_size=1, max_size=5),
    step_seconds=st.floats(0.5, 50),
)
def test_training_is_stalled_for_at_most_a_hundredth_of_the_time(every_seconds, times, step_seconds):
    """Whatever the copies and the writing take. Oracle: what the clock shows before and after each save."""
    clock = Clock()
    saves = Saves(clock)
    saver, stalled = Saver(saves, SaveTimer(every_seconds, clock)), 0.0
    for saves.copy_seconds, saves.write_seconds in [*times, (0.0, 0.0)]:
        while not saver.is_due:
            clock.now += step_seconds
        assert stalled <= 0.01 * clock.now * (1 + 1e-9)
        began = clock.now
        saver.start(None, None, len(saves.steps), None)
        stalled += clock.now - began
    assert saves.most == 1, "one is written at a time"


def test_a_failure_waits_for_the_checkpoint_that_is_written(trained):
    clock = Clock()
    saves = Saves(clock, write_seconds=1000.0, errors={1: OSError("full")})

    def fail(rows):
        clock(rows)
        if rows[-1]["step"] == 3:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        trained(Saver(saves, SaveTimer(1, clock)), fail)
    assert saves.steps == [1]
    assert clock.now >= 1001, "and its error does not hide the failure"


@pytest.mark.parametrize(
    ("size", "error", "waits"),
    [
        (1, RuntimeError("broken"), True),
        (2, RuntimeError("gloo: a rank is gone"), False),
        (2, KeyboardInterrupt(), False),
        (2, RunFailedError("data", "bad images"), False),
        (2, RunFailedError("not finite", "text_loss is nan"), True),
        (2, None, True),
    ],
)
def test_an_error_of_one_of_several_ranks_waits_for_no_checkpoint(size, error, waits):
    clock = Clock()
    saver = Saver(Saves(clock, write_seconds=1000.0), SaveTimer(1, clock), World(size=size))
    with contextlib.suppress(RuntimeError, KeyboardInterrupt, RunFailedError), saver:
        saver.start(None, None, 1, None)
        if error is not None:
            raise error
    assert clock.now == (1000.0 if waits else 0.0)
    saver.wait()
    assert clock.now == 1000.0


class Asked(World):
    """One rank that remembers what it asked the others."""

    asked: ClassVar = []

    def any(self, here):
        self.asked.append(here)
        return here


def test_only_rank_0_decides_by_its_clock(trained):
    clock = Clock()
    world = Asked(rank=1)
    saves = Saves(clock)
    trained(Saver(saves, SaveTimer(1e-9, clock), world), clock, world)
    assert len(world.asked) >= NUM_STEPS
    assert not any(world.asked)
    assert saves.steps == [NUM_STEPS]
