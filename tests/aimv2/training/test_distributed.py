"""Two ranks against one process, and runs in which a rank is interrupted, fails or dies.

This process is rank 0, and another one follows, unless all ranks are other processes.
"""

import functools
import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import weakref
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from aimv2.base.errors import UsageError
from aimv2.base.files import read_json
from aimv2.base.interrupt import Interrupts
from aimv2.cli import main as command_line
from aimv2.config.training_config import BudgetConfig, CheckpointConfig
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import prepare
from aimv2.definitions.metrics import Metric
from aimv2.definitions.objectives import BUILT_IN, objective
from aimv2.evaluation.evaluate import evaluate
from aimv2.objectives.build import build
from aimv2.run.execute import execute as execute_and_evaluate
from aimv2.run.execute import follow as follow_and_evaluate
from aimv2.runs.lease import LeaseLostError
from aimv2.runs.record import RunFolder
from aimv2.runs.rows import OF_MACHINE, read_rows
from aimv2.training.distributed import GIVEN, dismiss, leading, place
from aimv2.training.loop import train
from tests.helpers.marks import everyday
from tests.helpers.training import Rows, changed, small_run
from tests.helpers.training import run as on_one

NUM_STEPS = 6
VARIANTS = [
    *({"objective.name": name} for name in BUILT_IN),
    {"objective.pixel_patches": "image"},
    {"objective.pixel_patches": "image_mean", "prefix.full_attention": 0.5},
    {"objective.text_tokens": "caption"},
    {"prefix.full_attention": 0.8},  # in some batches one rank has no patch to predict, in some both have none
    {"prefix.full_attention": 0.999, "prefix.per": "batch"},
    {"prefix.per": "batch", "objective.pixel_values": "sum"},
    {"model.decoder.sharing": "separate", "data.weights": [3, 1]},
    {"model.decoder.order": "text_first", "data.captions": "shuffled", "objective.supervise_eos": True},
    {"objective.name": "aimv2", "parallel": "fsdp"},
    {"objective.name": "siglip", "parallel": "fsdp"},
]


def unevaluated(*data):
    """Stand in for ``evaluate``, which takes most of a small run's time."""
    return {"caption_loss": Metric(1.0, "nats/token", "a test")}


execute = functools.partial(execute_and_evaluate, evaluate=unevaluated)


def launcher_of(ranks):
    """Return the variables that a launcher of these ranks sets for all of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


class Follower:
    """A process that is a rank and calls a function; ``led`` makes this process rank 0 within a context."""

    def __init__(self, function, *arguments, rank=1, given=None):
        self.given = given or launcher_of(2)
        self.output = Path(tempfile.mkdtemp()) / "stderr"
        server = multiprocessing.get_context("forkserver")
        server.set_forkserver_preload([__name__, "torch._dynamo", "pandas"])  # once for all of them
        self.process = server.Process(
            target=as_rank, args=(rank, self.given, self.output, function, arguments), daemon=True
        )
        self.process.start()

    @contextmanager
    def led(self):
        with pytest.MonkeyPatch.context() as patched:
            for name, value in {**self.given, "RANK": "0"}.items():
                patched.setenv(name, value)
            yield

    def ended(self):
        """Wait for its end; return its exit status and stderr."""
        self.process.join(timeout=120)
        printed = self.output.read_text()
        shutil.rmtree(self.output.parent)
        return self.process.exitcode, printed


def as_rank(rank, given, output, function, arguments):
    os.environ.update(given, RANK=str(rank))
    os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), 2)
    sys.exit(function(*arguments))


def following(config, **does):
    return Follower(follow_until, config, does)


def lead_until(run, config, does):
    """Execute a run as rank 0, until this rank is killed in a step."""
    disturb(does)
    execute(run.acquire(config), config)
    dismiss()


def disturb(does):
    """Have this process be interrupted, killed or fail in a step."""
    original = TrainBatches.part

    def disturbed(batches, step, images):
        if step == does.get("signalled_in"):
            os.kill(os.getpid(), signal.SIGUSR2)
        if step == does.get("killed_in"):
            os.kill(os.getpid(), signal.SIGKILL)
        if step == does.get("fails_in"):
            raise MemoryError("no room for the batch")
        return original(batches, step, images)

    TrainBatches.part = disturbed


def follow_until(config, does):
    """Follow rank 0 until this rank is disturbed, in a step or in a part of the evaluation."""

    def evaluated(*data):
        *data, part, world = data

        def disturbed_part(names, measure):
            if does.get("signalled_at") in names:
                os.kill(os.getpid(), signal.SIGUSR2)
            return part(names, measure)

        return evaluate(*data, disturbed_part, world)

    disturb(does)
    with Interrupts().listening() as interrupts:
        follow_and_evaluate(config, interrupts, evaluated if does.get("evaluates") else unevaluated)


@pytest.fixture(scope="module")
def longer(tiny, with_samples):
    """A run of a few steps on two ranks, with other values."""

    def change(changes, **more):
        config = with_samples(changed(tiny, changes), NUM_STEPS * tiny.budget.batch_size)
        # AdamW divides by |gradient| + eps, and with a small eps makes a step of the noise where a gradient vanishes.
        optimizer = replace(config.optimizer, eps=1e-4, peak_lr=1e-2, warmup_fraction=0.2)
        evaluation = replace(config.evaluation, curve_points=3)
        return replace(config, optimizer=optimizer, evaluation=evaluation, ranks=2, **more)

    return change


@pytest.fixture(scope="module")
def follower(longer):
    """A rank 1 that follows in one run after the other."""
    follower = following(longer({}))
    yield follower
    with follower.led():
        dismiss()
    status, printed = follower.ended()
    assert status == 0
    assert all("find_unused_parameters=True was specified" in line for line in printed.splitlines())


def on_two(follower, config, pairs, record):
    """Train as ``on_one`` does, on two ranks."""
    model = build(config)
    with follower.led():
        assert place(config) == 0
        with leading(config) as world:
            trained = train(
                config,
                objective(config.objective.name),
                model,
                TrainBatches(config, pairs.train, pairs.tokenizer, rank=0),
                attempt=record,
                held_out=lambda model: {"held_out_caption_loss": 1.5},
                world=world,
            )
    return trained.network, record.rows, trained.flops


@pytest.mark.parametrize(
    "changes",
    everyday([VARIANTS[0], VARIANTS[-2]], VARIANTS),
    ids=lambda changes: " ".join(f"{k}={v}" for k, v in changes.items()),
)
def test_two_ranks_train_like_one(longer, follower, pairs, changes):
    config = longer(changes)
    model, rows, flops = on_two(follower, config, pairs, Rows())
    alone, expected, expected_flops = on_one(replace(config, ranks=1), pairs)
    if config.parallel == "fsdp":  # no rank holds the shared parameters, so the balance of gradients is not measured
        balance = {"pixel_loss_gradient", "text_loss_gradient", "gradient_cosine"}
        expected = [{name: value for name, value in row.items() if name not in balance} for row in expected]
    assert flops == expected_flops
    assert [row.keys() for row in rows] == [row.keys() for row in expected]
    for row, one in zip(rows, expected, strict=True):
        assert {k: v for k, v in row.items() if k not in OF_MACHINE} == pytest.approx(
            {k: v for k, v in one.items() if k not in OF_MACHINE}, rel=1e-5, abs=1e-6
        )
    start = build(config).state_dict()
    for name, weight in alone.state_dict().items():
        torch.testing.assert_close(
            model.state_dict()[name], weight, rtol=0, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}"
        )
        assert torch.equal(model.state_dict()[name], start[name]) == torch.equal(weight, start[name]), name


def computed(run):
    """Return the run's rows without what a clock measured, as text, in which nan equals nan."""
    rows = run.metrics().drop(columns=list(OF_MACHINE), errors="ignore")
    return json.dumps(rows.to_dict("records"))


@pytest.mark.exhaustive
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_run_interrupted_on_rank_1_resumes_bitwise(longer, follower, tmp_path, parallel):
    config = longer({"parallel": parallel})
    whole, parted = (RunFolder(tmp_path / kind, config.name) for kind in ("whole", "parted"))
    interrupted = following(config, signalled_in=2)
    with follower.led():
        assert execute(whole.acquire(config), config) is None
    with interrupted.led(), pytest.raises(KeyboardInterrupt):
        execute(parted.acquire(config), config)
    assert interrupted.ended() == (0, "")
    assert parted.state() == "new"
    assert [row["step"] for row in read_rows(parted.path / "attempts/0001")] == [0, 1, 2, 3], (
        "both ranks stop after the same step"
    )
    (saved,) = parted.path.glob("attempts/0001/checkpoint/*")
    assert len(list(saved.glob("*.safetensors"))) == 2, "each rank saves its shard"
    with follower.led():
        assert execute(parted.acquire(config), config) is None
    assert read_json(parted.file("manifest.json"))["resumed"] == {"attempt": 1, "step": 3}
    weights, expected = (load_file(run.file("weights.safetensors")) for run in (parted, whole))
    assert weights.keys() == expected.keys() == build(config).state_dict().keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert computed(parted) == computed(whole)
    assert parted.result()["train_flops"] == whole.result()["train_flops"]
    assert not list(tmp_path.rglob("*checkpoint*")), "checkpoints of a finished run are deleted"


@pytest.mark.exhaustive
def test_run_resumes_with_another_kind_of_ranks(longer, follower, tmp_path):
    """``parallel`` is not in the run's name; the result is that of one process, but for rounding."""
    config, sharded = longer({"parallel": "ddp"}), longer({"parallel": "fsdp"})
    run, interrupted = RunFolder(tmp_path, config.name), following(config, signalled_in=2)
    assert sharded.name == run.name
    with interrupted.led(), pytest.raises(KeyboardInterrupt):
        execute(run.acquire(config), config)
    assert interrupted.ended() == (0, "")
    with follower.led():
        assert execute(run.acquire(sharded), sharded) is None
    assert read_json(run.file("manifest.json"))["resumed"] == {"attempt": 1, "step": 3}
    one = replace(config, ranks=1)
    alone = RunFolder(tmp_path, one.name)
    assert execute(alone.acquire(one), one) is None
    weights, expected = (load_file(each.file("weights.safetensors")) for each in (run, alone))
    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=1e-5, msg=name)
    losses, expected_losses = (each.metrics()["text_loss"].to_list()[1:] for each in (run, alone))
    assert losses == pytest.approx(expected_losses, rel=1e-5)


@pytest.mark.exhaustive
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_evaluation_interrupted_on_rank_1_resumes_with_the_missing_parts(longer, tmp_path, parallel):
    """The result is bitwise that of one process with the same weights."""
    config = longer({"parallel": parallel})
    config = replace(config, evaluation=replace(config.evaluation, num_items=300))  # two batches of images
    run, measured = RunFolder(tmp_path, config.name), []

    def counted(*data):
        *data, part, world = data
        return evaluate(*data, lambda names, measure: part(names, lambda m: measured.extend(m) or measure(m)), world)

    interrupted = following(config, evaluates=True, signalled_at="probe_count")
    with interrupted.led(), pytest.raises(KeyboardInterrupt):
        execute_and_evaluate(run.acquire(config), config, evaluate=counted)
    assert interrupted.ended() == (0, "")
    saved = {path.stem for path in run.path.glob("attempts/0001/evaluation/*")}
    assert saved == {"captions", "pixels", "reader", "probe_object", "probe_ink"}
    measured.clear()
    follower = following(config, evaluates=True)
    with follower.led():
        assert execute_and_evaluate(run.acquire(config), config, evaluate=counted) is None
        dismiss()
    assert follower.ended() == (0, "")
    assert measured[:2] == ["probe_count", "knn_object"]
    assert not saved & {*measured}

    model = build(config)
    model.load_state_dict(load_file(run.file("weights.safetensors")))
    alone = replace(config, ranks=1)
    expected = evaluate(model, objective("aimv2"), prepare(config.data, config.model.vocab_size), alone)
    metrics = run.result()["metrics"]
    assert [*metrics] == [*expected]
    assert {name: metric["value"] for name, metric in metrics.items()} == {
        name: metric.value for name, metric in expected.items()
    }


@pytest.mark.exhaustive
def test_loss_that_is_not_finite_fails_the_run_and_ranks_take_the_next(longer, follower, pairs, tmp_path):
    config = longer({})
    divergent = replace(config, optimizer=replace(config.optimizer, peak_lr=1e30))
    run = RunFolder(tmp_path, divergent.name)
    with follower.led():
        assert execute(run.acquire(divergent), divergent).cause == "not finite"
    assert len(on_two(follower, config, pairs, Rows())[1]) == NUM_STEPS + 1


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("does", "cause", "message"),
    [
        ({"fails_in": 2}, "out of memory", r"rank 1: MemoryError: no room for the batch"),
        ({"killed_in": 2}, "node", r"another rank ended without an error message: .*"),
    ],
)
def test_failure_of_rank_1_is_recorded_by_rank_0(longer, tmp_path, does, cause, message):
    config = longer({})
    follower, run = following(config, **does), RunFolder(tmp_path, config.name)
    with follower.led():
        failure = execute(run.acquire(config), config)
        assert failure.cause == cause
        assert re.fullmatch(message, failure.message)
        assert run.failure() == failure
        again = replace(config, seed=1)
        if "fails_in" in does:  # rank 1 wrote its error to the store
            refused = execute(RunFolder(tmp_path, again.name).acquire(again), again)
            assert refused.message == "another rank ended before the work began; start all ranks again"
    status, printed = follower.ended()
    assert (status, "Traceback" in printed) == ((0, True) if "fails_in" in does else (-signal.SIGKILL, False))


@pytest.mark.exhaustive
@pytest.mark.parametrize(("ranks", "parallel"), [(2, "ddp"), (3, "fsdp")])
def test_a_killed_rank_is_to_blame_and_no_survivor_and_the_run_resumes_bitwise(longer, tmp_path, ranks, parallel):
    """All ranks are killed in turn, each in a random step; any survivor's collective may fail first."""
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")
    random, steps_each = np.random.default_rng(seed), 3
    ranks_killed = random.permutation(ranks)
    budget = BudgetConfig(samples=24 * steps_each * (len(ranks_killed) + 1), batch_size=24)
    config = replace(longer({"parallel": parallel}), ranks=ranks, budget=budget, checkpoint=CheckpointConfig(1e-3))
    whole, resumed = (RunFolder(tmp_path / name, config.name) for name in ("whole", "resumed"))
    assert executed(config, whole) == [0] * ranks
    for number, killed in enumerate(ranks_killed):
        killed_in = number * steps_each + int(random.integers(steps_each))
        ended = executed(config, resumed, killed=killed, killed_in=killed_in)
        assert ended == [-signal.SIGKILL if rank == killed else 0 for rank in range(ranks)], f"seed {seed}"
        failure = resumed.failure()
        assert failure.cause == "node", f"seed {seed}: {failure}"
        assert failure.message.startswith(
            "another rank ended without an error message: " if killed else "the process ended without recording"
        ), f"seed {seed}: {failure}"
    assert executed(config, resumed) == [0] * ranks, f"seed {seed}"
    assert resumed.num_attempts == len(ranks_killed) + 1
    weights, expected = (load_file(run.file("weights.safetensors")) for run in (resumed, whole))
    assert all(torch.equal(weights[name], expected[name]) for name in expected), f"seed {seed}"


def executed(config, run, *, killed=None, killed_in=None):
    """Execute a run in one process for each rank, and return their exit statuses."""
    given, does = launcher_of(config.ranks), {"killed_in": killed_in}
    processes = [
        Follower(
            *(lead_until, run) if rank == 0 else (follow_until,),
            config,
            does if rank == killed else {},
            rank=rank,
            given=given,
        )
        for rank in range(config.ranks)
    ]
    ended = [process.ended() for process in processes]
    assert not any("Traceback" in printed for _, printed in ended), ended
    return [status for status, _ in ended]


@pytest.mark.exhaustive
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_rank_1_ends_when_rank_0_loses_its_lease(longer, tmp_path, parallel):
    config = longer({"parallel": parallel})
    follower, run = following(config), RunFolder(tmp_path, config.name)

    def take_over(rows):
        if rows[-1]["step"] == 2:
            (run.path / "attempts/0001/released").touch()
            assert run.acquire(config) is not None

    with follower.led(), pytest.raises(LeaseLostError):
        execute(run.acquire(config), config, take_over)
    assert follower.ended() == (0, "")


class Cyclic:
    """Is in a reference cycle, as DistributedDataParallel is."""

    def __init__(self):
        self.own = self


def test_what_a_failed_run_holds_is_freed_with_its_process_group(longer):
    """A DistributedDataParallel that outlives its gloo group may deadlock: pytorch/pytorch#56297."""
    config, held = longer({}), []
    follower = following(config)

    def fail():
        module = Cyclic()
        held.append(weakref.ref(module))
        raise ValueError("broken")

    with follower.led():
        assert place(config) == 0
        with pytest.raises(ValueError, match="broken"), leading(config):
            fail()
        assert held[0]() is None
    assert follower.ended()[0] == 0


@pytest.mark.parametrize(
    ("started", "ranks", "message"),
    [
        ({}, 2, r"ranks=2, but WORLD_SIZE=1: the launcher has to start .* \(torchrun --nproc-per-node 2\)"),
        ({"WORLD_SIZE": "4"}, 2, "ranks=2, but WORLD_SIZE=4"),
        ({"WORLD_SIZE": "2"}, 1, "ranks=1, but WORLD_SIZE=2"),
        ({"WORLD_SIZE": "2", "RANK": "1"}, 2, "ranks=2, but the launcher did not set MASTER_ADDR and MASTER_PORT"),
    ],
)
def test_wrong_number_of_processes_is_refused(longer, monkeypatch, started, ranks, message):
    for name in GIVEN:
        monkeypatch.delenv(name, raising=False)
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=message) as caught:
        place(replace(longer({}), ranks=ranks))
    assert "\n" not in str(caught.value)


@pytest.mark.exhaustive
def test_command_line_trains_and_evaluates_on_all_ranks(tmp_path, cache_dir, capsys):
    arguments = ["train", *small_run(cache_dir, "ranks=2", f"runs_dir={tmp_path}")]
    follower = Follower(command_line, arguments)
    with follower.led():
        assert command_line(arguments) == 0
    assert follower.ended() == (0, "")
    assert "run folder: " in capsys.readouterr().out
    results = [read_json(path) for path in tmp_path.glob("*/result.json")]
    assert sorted(result["train_flops"] > 0 for result in results) == [False, True], "and the untrained encoder"
