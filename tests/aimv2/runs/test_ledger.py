"""The ledger under processes that are killed and stopped, and under every interleaving of its operations."""

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

from aimv2.config.signature import signature
from aimv2.evaluation.metrics import Metric
from aimv2.runs import lease
from aimv2.runs.files import read_json
from aimv2.runs.lease import LeaseLostError
from aimv2.runs.record import RunFolder

NUM_PROCESSES = 8
NUM_RUNS = 500
METRIC = {"caption_loss": Metric(1.0, "nats/token", "a test")}


def configs(tiny, number):
    return [replace(tiny, seed=seed) for seed in range(number)]


def work_through(runs_dir, wanted, seed, lost):
    """Do whatever run is free, each of them nothing but its record, until all are done."""
    lease.HEARTBEAT_SECONDS, lease.GRACE_SECONDS = 0.05, 0.4
    draw = random.Random(seed)
    while undone := [(name, config) for name, config in wanted if not RunFolder(runs_dir, name).is_done]:
        draw.shuffle(undone)
        for name, config in undone:
            attempt = RunFolder(runs_dir, name).acquire(config)
            if attempt is None:
                continue
            try:
                with attempt:
                    attempt.write_rows([{"step": 0, "samples": 0, "maker": os.getpid()}])
                    time.sleep(draw.random() * 0.01)
                    attempt.publish(METRIC, maker=os.getpid())
            except LeaseLostError:
                with lost.get_lock():
                    lost.value += 1


@pytest.mark.slow
def test_every_run_has_one_result_whoever_is_killed_or_stopped(tiny, tmp_path):
    wanted = [(signature(config), config) for config in configs(tiny, NUM_RUNS)]
    fork, draw = multiprocessing.get_context("fork"), random.Random(0)
    lost, number = fork.Value("i", 0), 0

    def start():
        nonlocal number
        number += 1
        process = fork.Process(target=work_through, args=(tmp_path, wanted, number, lost))
        process.start()
        return process

    processes = [start() for _ in range(NUM_PROCESSES)]
    stopped: dict[int, float] = {}
    num_killed = num_stopped = 0
    deadline = time.monotonic() + 240
    while any(process.is_alive() for process in processes):
        assert time.monotonic() < deadline, "the runs were not done in time"
        time.sleep(0.05)
        for process in processes:
            if stopped.get(process.pid, time.monotonic()) < time.monotonic() - 1:  # well past the grace time
                os.kill(process.pid, signal.SIGCONT)
                del stopped[process.pid]
        is_over = all(RunFolder(tmp_path, name).is_done for name, _ in wanted[-20:])
        place = draw.randrange(NUM_PROCESSES)
        chosen = processes[place]
        if is_over or not chosen.is_alive() or chosen.pid in stopped:
            continue
        if draw.random() < 0.5:
            os.kill(chosen.pid, signal.SIGKILL)
            chosen.join()
            processes[place] = start()
            num_killed += 1
        elif len(stopped) < NUM_PROCESSES - 2:
            os.kill(chosen.pid, signal.SIGSTOP)
            stopped[chosen.pid] = time.monotonic()
            num_stopped += 1
    assert [process.exitcode for process in processes] == [0] * NUM_PROCESSES
    assert num_killed > 3
    assert num_stopped > 3
    num_attempts = 0
    for name, _ in wanted:
        run = RunFolder(tmp_path, name)
        result = run.result()
        assert result == read_json(run.file("result.json"))
        assert run.metrics()["maker"].tolist() == [result["maker"]], "rows and result are of one process"
        num_attempts += run.num_attempts
    assert num_attempts > NUM_RUNS, "somebody was taken over"
    assert lost.value > 0, "somebody who was stopped learned that he had lost his run"


class Interleavings(RuleBasedStateMachine):
    """Four workers on other hosts, two runs. What should be true is kept beside in plain sets and dicts."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.held = {}  # worker -> its attempt, by its own belief
        self.owner = {}  # run -> the worker whose attempt is the latest
        self.is_living = {}  # run -> whether that attempt's holder shows that it lives
        self.result = {}  # run -> what was published

    def teardown(self):
        self.folder.cleanup()

    def run(self, number):
        config = CONFIGS[number]
        return RunFolder(Path(self.folder.name), signature(config)), config

    workers = st.integers(0, 3)
    runs = st.integers(0, 1)

    @rule(worker=workers, number=runs)
    def acquire(self, worker, number):
        if worker in self.held:
            return
        run, config = self.run(number)
        attempt = run.acquire(config)
        assert (attempt is None) == (number in self.result or self.is_living.get(number, False))
        if attempt is not None:
            (attempt.folder / "metrics.jsonl").touch()
            holder = json.loads((attempt.folder / "holder.json").read_text())
            (attempt.folder / "holder.json").write_text(json.dumps(holder | {"host": f"host {worker}"}))
            self.held[worker] = (number, attempt)
            self.owner[number], self.is_living[number] = worker, True

    def owns(self, worker, number):
        return self.owner[number] == worker

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def fall_silent(self, data):
        """Stopped, or cut off from the disk, past the grace time; it may come back."""
        worker = data.draw(st.sampled_from(sorted(self.held)))
        number, attempt = self.held[worker]
        os.utime(attempt.folder / "heartbeat", (0, 0))
        if self.owns(worker, number):
            self.is_living[number] = False

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def beat(self, data):
        worker = data.draw(st.sampled_from(sorted(self.held)))
        number, attempt = self.held[worker]
        (attempt.folder / "heartbeat").touch()
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
        attempt._lease.release()
        if owned:
            self.is_living[number] = False

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data):
        worker = data.draw(st.sampled_from(sorted(self.held)))
        number, attempt = self.held.pop(worker)
        attempt._lease.release()
        if self.owns(worker, number):
            self.is_living[number] = False

    @invariant()
    def results_stay_what_they_were(self):
        for number, worker in self.result.items():
            assert self.run(number)[0].result()["maker"] == worker


CONFIGS = []


@pytest.mark.slow
def test_whatever_the_order_a_run_has_one_living_holder_and_one_result(tiny):
    CONFIGS[:] = configs(tiny, 2)
    few = settings(max_examples=60, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(Interleavings, settings=few)
