"""Exactly one result per run, under processes that are killed and stopped and under every order of operations."""

import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from aimv2.base.files import read_json
from aimv2.definitions.metrics import Metric
from aimv2.runs.lease import GRACE_SECONDS, LeaseLostError, Watch
from aimv2.runs.record import RunFolder
from tests.helpers.marks import exhaustive

METRIC = {"caption_loss": Metric(1.0, "nats/token", "a test")}
SHORT_HEARTBEAT, SHORT_GRACE = 0.03, 0.3  # seconds
STOP_SECONDS = 0.6  # well past the grace period


def configs(tiny, number):
    return [replace(tiny, seed=seed) for seed in range(number)]


def work_through(runs_dir, notes, wanted, held_back, seed):
    """Record runs until all are done. The runs held back are published once the file ``enough`` exists."""
    draw, watch = random.Random(seed), Watch(SHORT_GRACE)
    while undone := [(name, config) for name, config in wanted if not RunFolder(runs_dir, name).is_done]:
        draw.shuffle(undone)
        for name, config in undone:
            attempt = RunFolder(runs_dir, name).acquire(config, watch=watch, beat_seconds=SHORT_HEARTBEAT)
            if attempt is None:
                continue
            try:
                with attempt:
                    attempt.write_rows([{"step": 0, "samples": 0, "maker": os.getpid()}])
                    time.sleep(draw.random() * 0.01)
                    while name in held_back and not (notes / "enough").exists():
                        attempt.sync_rows()
                        time.sleep(0.01)
                    attempt.publish(METRIC, maker=os.getpid())
            except LeaseLostError:
                (notes / f"lost-{os.getpid()}-{name}").touch()


@pytest.mark.parametrize(("num_processes", "num_runs", "num_each"), [(4, 40, 3), exhaustive(8, 500, 15)])
def test_every_run_has_one_result_when_workers_are_killed_and_stopped(
    tiny, tmp_path, num_processes, num_runs, num_each
):
    """Kill and stop workers until each happened ``num_each`` times and a stopped worker found that it lost its run."""
    wanted = [(config.name, config) for config in configs(tiny, num_runs)]
    held_back = {name for name, _ in wanted[-num_processes // 2 :]}  # fewer than processes, so that others are free
    runs_dir, notes = tmp_path / "runs", tmp_path / "notes"
    notes.mkdir()
    fork, draw, number = multiprocessing.get_context("fork"), random.Random(0), 0

    def start():
        nonlocal number
        number += 1
        process = fork.Process(target=work_through, args=(runs_dir, notes, wanted, held_back, number))
        process.start()
        return process

    processes = [start() for _ in range(num_processes)]
    stopped: dict[int, float] = {}
    num_killed = num_stopped = 0
    deadline = time.monotonic() + 240
    while any(process.is_alive() for process in processes):
        assert time.monotonic() < deadline, "the runs were not done in time"
        time.sleep(0.02)
        for pid, since in list(stopped.items()):
            if time.monotonic() > since + STOP_SECONDS:
                os.kill(pid, signal.SIGCONT)
                del stopped[pid]
        if min(num_killed, num_stopped) >= num_each and any(notes.glob("lost-*")):
            (notes / "enough").touch()
            continue
        place = draw.randrange(num_processes)
        chosen = processes[place]
        if chosen.pid in stopped:
            continue
        if draw.random() < 0.3:
            os.kill(chosen.pid, signal.SIGKILL)
            chosen.join()
            processes[place] = start()
            num_killed += 1
        elif len(stopped) < num_processes // 2:
            os.kill(chosen.pid, signal.SIGSTOP)
            stopped[chosen.pid] = time.monotonic()
            num_stopped += 1
    assert [process.exitcode for process in processes] == [0] * num_processes
    num_attempts = 0
    for name, _ in wanted:
        run = RunFolder(runs_dir, name)
        result = run.result()
        assert result == read_json(run.file("result.json"))
        assert run.metrics()["maker"].tolist() == [result["maker"]], "rows and result are of one process"
        num_attempts += run.num_attempts
    assert num_attempts > num_runs, "some runs were taken over"


def beat(attempt):
    path = attempt.folder / "heartbeat"
    os.truncate(path, path.stat().st_size + 1)


class Interleavings(RuleBasedStateMachine):
    """Four workers on other hosts and two runs. Plain dicts hold the expected state."""

    configs = ()

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.held = {}  # worker -> the attempt that it believes to hold
        self.owner = {}  # run -> the worker whose attempt is the latest
        self.is_living = {}  # run -> whether that attempt's holder has a fresh heartbeat
        self.result = {}  # run -> what was published
        self.now = 0.0  # seconds
        self.watches = [Watch(now=lambda: self.now) for _ in range(4)]  # of each worker

    def teardown(self):
        for _, attempt in self.held.values():
            attempt._rows.close()
        self.folder.cleanup()

    def run(self, number):
        config = self.configs[number]
        return RunFolder(Path(self.folder.name), config.name), config

    workers = st.integers(0, 3)
    runs = st.integers(0, 1)

    @rule(worker=workers, number=runs)
    def acquire(self, worker, number):
        if worker in self.held:
            return
        run, config = self.run(number)
        attempt = run.acquire(config, watch=self.watches[worker])
        assert (attempt is None) == (number in self.result or self.is_living.get(number, False))
        if attempt is not None:
            attempt._rows = (attempt.folder / "metrics.jsonl").open("a")
            holder = json.loads((attempt.folder / "holder.json").read_text())
            (attempt.folder / "holder.json").write_text(json.dumps(holder | {"host": f"host {worker}"}))
            self.held[worker] = (number, attempt)
            self.owner[number], self.is_living[number] = worker, True

    def owns(self, worker, number):
        return self.owner[number] == worker

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def miss_heartbeats(self, data):
        """Stop the heartbeat for longer than the grace period; the worker may come back."""
        worker = data.draw(st.sampled_from(sorted(self.held)))
        number, _ = self.held[worker]
        attempts = [other for _, other in self.held.values()]
        for _ in range(4):  # all watch all, before and after
            for watch in self.watches:
                for other in attempts:
                    watch.sees(other.folder)
            self.now += GRACE_SECONDS / 3
            for holder, (other_number, other) in self.held.items():
                if holder != worker and self.owns(holder, other_number) and self.is_living[other_number]:
                    beat(other)
        if self.owns(worker, number):
            self.is_living[number] = False

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def beat(self, data):
        worker = data.draw(st.sampled_from(sorted(self.held)))
        number, attempt = self.held[worker]
        beat(attempt)
        if self.owns(worker, number):
            self.is_living[number] = True

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def publish(self, data):
        worker = data.draw(st.sampled_from(sorted(self.held)))
        number, attempt = self.held.pop(worker)
        owned = self.owns(worker, number)
        if owned and number not in self.result:
            attempt.publish(METRIC, maker=worker)
            self.result[number] = worker
        else:
            with pytest.raises(LeaseLostError):
                attempt.publish(METRIC, maker=worker)
        attempt._rows.close()
        attempt._lease.release()
        if owned:
            self.is_living[number] = False

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data):
        worker = data.draw(st.sampled_from(sorted(self.held)))
        number, attempt = self.held.pop(worker)
        attempt._rows.close()
        attempt._lease.release()
        if self.owns(worker, number):
            self.is_living[number] = False

    @invariant()
    def published_results_stay(self):
        for number, worker in self.result.items():
            assert self.run(number)[0].result()["maker"] == worker


@pytest.mark.parametrize("num_examples", [20, exhaustive(200)])
def test_one_living_holder_and_one_result_in_any_order_of_operations(tiny, num_examples):
    machine = type("Runs", (Interleavings,), {"configs": configs(tiny, 2)})
    run_state_machine_as_test(machine, settings=settings(max_examples=num_examples, stateful_step_count=30))
