"""What nvidia-smi says of a GPU's memory, and whether one more process fits."""

import os
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aimv2.errors import UsageError
from sweeps.executors import card as card_module
from sweeps.executors.card import Filling, NvidiaCard


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    later=st.lists(st.integers(0, 10), min_size=8, max_size=8),
    total=st.integers(20, 60),
    context=st.integers(0, 3),
    at_once=st.integers(1, 5),
    data=st.data(),
)
def test_every_run_is_done_that_fits_the_card_alone(sizes, later, total, context, at_once, data):
    """However large runs are, whenever they grow and whatever happens first, and none else. Each process does run after
    run, and one whose run was handed back has its memory until it ends; ``context`` is what CUDA takes beside torch."""
    filling = Filling(total=total, before=0, most=at_once)
    waiting, done, failed = list(range(len(sizes))), set(), set()
    there = {}  # by their loads: the run, how far it is, and what is held
    limit = at_once

    def used():
        return sum(held + context for _, _, held in there.values())

    for _ in range(1000):
        if waiting and filling.takes_another(used):
            there[filling.start()] = (None, "between", 0)
            assert len(there) <= limit
        elif not there:
            break
        load = data.draw(st.sampled_from(list(there)))
        run, phase, held = there[load]
        if phase == "ends" or (phase == "between" and not waiting):
            filling.end(load)
            del there[load]
            continue
        if phase == "between":
            run = waiting.pop(0)
            filling.begin(load)
            there[load] = (run, "begun", held)
            continue
        wanted = max(held, sizes[run] + (later[run] if phase == "stepped" else 0))
        if used() - held + wanted > total:
            if filling.overflow(load):
                waiting.append(run)
                limit = min(limit, max(len(there) - 1, 1))
                there[load] = (None, "ends", held)
            else:
                failed.add(run)
                assert len(there) == 1
                there[load] = (None, "between", held)
        elif phase == "begun":
            filling.step(load, wanted)
            there[load] = (run, "stepped", wanted)
        else:
            done.add(run)
            there[load] = (None, "between", wanted)
    assert not waiting
    assert not there, "it comes to an end"
    assert failed == {run for run, size in enumerate(sizes) if size + later[run] + context > total}
    assert done == set(range(len(sizes))) - failed


@given(
    size=st.integers(1, 30),
    context=st.integers(0, 10),
    before=st.integers(0, 50),
    total=st.integers(60, 400),
    at_once=st.integers(1, 12),
)
def test_equal_runs_fill_the_card(size, context, before, total, at_once):
    """As many as fit, the last with a tenth to spare."""
    filling = Filling(total=total, before=before, most=at_once)
    each = size + context

    def used():
        return before + len(filling.loads) * each

    while filling.takes_another(used):
        load = filling.start()
        assert not filling.takes_another(lambda: 0), "not before its first steps"
        filling.begin(load)
        filling.step(load, size)
    fitting = [n for n in range(1, at_once) if 10 * (total - before - n * each) >= 11 * each]
    assert len(filling.loads) == (fitting[-1] if fitting else 0) + 1


def test_who_was_not_alone_from_its_beginning_is_handed_back():
    """Though the other has ended when that is asked: it may have filled the card until then."""
    filling = Filling(total=10, before=0, most=4)
    one = filling.start()
    filling.begin(one)
    filling.step(one, 2)
    other = filling.start()
    filling.end(other)
    assert filling.overflow(one)
    assert filling.most == 1
    filling.begin(one)
    assert not filling.overflow(one)


def test_as_many_as_there_were_at_once_are_too_many():
    """Not only those that are there in the end."""
    filling = Filling(total=10, before=0, most=8)
    one, other, third = [filling.start() for _ in range(3)]
    filling.begin(one)
    filling.end(other)
    filling.end(third)
    filling.start()
    assert filling.overflow(one)
    assert filling.most == 2


def test_none_is_added_to_one_that_goes_on_to_another_run():
    filling = Filling(total=10, before=0, most=8)
    one = filling.start()
    filling.begin(one)
    filling.step(one, 2)
    assert filling.takes_another(lambda: 2)
    filling.begin(one)
    assert not filling.takes_another(lambda: 2)


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """A function that puts an nvidia-smi on PATH, and gives a card that asks it."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(card_module, "num_gpus", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda gpu: SimpleNamespace(uuid=f"1234-{gpu}"))

    def put(script):
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return NvidiaCard(2)

    return put


def test_nvidia_smi_is_asked_for_the_card_by_its_uuid(smi, tmp_path):
    card = smi(f"echo $* > {tmp_path}/asked; echo '30000, 81559'")
    assert card.memory() == (51559 * 2**20, 81559 * 2**20)
    assert card.name == "GPU-1234-2"
    assert "--id=GPU-1234-2 " in (tmp_path / "asked").read_text()


def test_a_signal_to_all_processes_of_a_job_does_not_keep_nvidia_smi_from_answering(smi):
    card = smi("kill -USR2 $$; kill -TERM $$; kill -INT $$; echo '1, 2'")
    assert card.memory() == (2**20, 2 * 2**20)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (
            "echo '[N/A], [N/A]'",
            r"nvidia-smi says '\[N/A\], \[N/A\]' of the memory of GPU-1234-2, which is not free and",
        ),
        ("echo '5'", "nvidia-smi says '5' of the memory"),
        ("echo 'No devices were found'; exit 6", "cannot say how much memory of GPU-1234-2 is free: No devices were f"),
        ("exit 9", "is free: nothing"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(smi, script, sentence):
    with pytest.raises(UsageError, match=sentence):
        smi(script).memory()


def test_without_nvidia_smi_or_a_gpu_it_is_one_sentence(smi, monkeypatch):
    card = smi("echo '1, 2'")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="share_gpu=true needs nvidia-smi, and there is none on PATH"):
        card.memory()
    monkeypatch.setattr(card_module, "num_gpus", lambda: 0)
    with pytest.raises(UsageError, match="share_gpu=true and torch sees no CUDA device where the worker runs"):
        NvidiaCard(0)
