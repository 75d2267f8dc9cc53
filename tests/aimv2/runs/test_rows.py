"""Rows found in parts of metrics files, against reading the files whole; and their events, by TensorBoard's reader."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.runs.rows import (
    EVENT_FILE,
    EVENTS,
    TensorBoard,
    last_row,
    last_rows,
    losses_of,
    read_rows,
    rows_at,
    scalars_of,
)
from tests.helpers.events import read_events


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("attempt")


def write(folder, rows, rest=""):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + rest)


@given(
    lengths=st.lists(st.integers(0, 60), max_size=40),
    steps=st.lists(st.integers(-1, 41)),
    rest=st.sampled_from(["", '{"st']),
)
def test_rows_at_finds_the_rows_of_steps_at_any_offset(folder, lengths, steps, rest):
    write(folder, [{"step": number, "text": "x" * length} for number, length in enumerate(lengths)], rest)
    expected = {row["step"]: row for row in read_rows(folder) if row["step"] in steps}
    assert rows_at(folder, steps) == expected


@given(lengths=st.lists(st.integers(0, 60), max_size=40), num_bytes=st.integers(1, 3000))
def test_last_rows_are_the_end_of_all_rows(folder, lengths, num_bytes):
    write(folder, [{"step": number, "text": "x" * length} for number, length in enumerate(lengths)])
    found, size = list(last_rows(folder, num_bytes)), (folder / "metrics.jsonl").stat().st_size
    assert found[::-1] == read_rows(folder)[len(lengths) - len(found) :]
    assert last_row(folder) == [{}, *read_rows(folder)][-1]
    if num_bytes > size:
        assert len(found) == len(lengths)
    elif num_bytes >= 200:
        assert found


def test_losses_are_those_of_training():
    row = {"step": 3, "held_out_caption_loss": 9.0, "text_loss": 1.5, "pixel_loss": 0.25}
    assert losses_of(row) == "text 1.500  pixel 0.250"


def test_missing_and_broken_rows_are_left_out(tmp_path):
    assert (rows_at(tmp_path, [0]), list(last_rows(tmp_path, 99)), last_row(tmp_path)) == ({}, [], {})
    write(tmp_path, [], 'no json\n[1]\n{"step": 3}\n')
    assert (rows_at(tmp_path, [3]), list(last_rows(tmp_path, 99))) == ({3: {"step": 3}}, [{"step": 3}])


def row(step, **values):
    return {"step": step, "samples": 8 * step, "seconds": 2.0 * step, "text_loss": 4 / (step + 1), **values}


def expected(rows):
    """Return what TensorBoard's reader should find of rows: values in float32."""
    found = {}
    for one in rows:
        for tag, value in scalars_of(one).items():
            found.setdefault(tag, []).append((one["step"], float(np.float32(value))))
    return found


def test_events_are_the_rows_of_the_record_while_the_run_trains_and_later(run, tiny):
    with run.acquire(tiny) as attempt:
        attempt.write_rows([{"step": 0, "samples": 0, "seconds": 0.5, "held_out_caption_loss": 6.25}])
        attempt.sync_rows()
        assert read_events(attempt.folder / EVENTS)[0] == expected(read_rows(attempt.folder))
        attempt.write_rows([row(1), row(2, memory_bytes=3e9, pixel_loss=None)])
    scalars, times = read_events(attempt.folder / EVENTS)
    assert scalars == expected(read_rows(attempt.folder))
    assert {"held_out/held_out_caption_loss", "train/text_loss", "machine/memory_bytes"} < scalars.keys()
    assert [times[2] - times[1], times[1] - times[0]] == [2.0, 1.5], "the times are those of training, in seconds"


def test_resumed_attempt_continues_the_series(run, tiny):
    with run.acquire(tiny) as first:
        first.write_rows([row(n) for n in range(4)])
    with run.acquire(tiny) as second:
        second.resume_from([row(n) for n in range(3)], seconds=4.0, cpu_seconds=4.0)
        second.write_rows([row(3, text_loss=0.125)])
        second.write_rows([row(4)])
    scalars, times = read_events(second.folder / EVENTS)
    assert [step for step, _ in scalars["train/text_loss"]] == [0, 1, 2, 3, 4]
    assert scalars == expected(read_rows(second.folder))
    assert np.diff(list(times.values())).tolist() == [2.0] * 4


def test_events_that_are_switched_off_leave_nothing(run, tiny):
    config = replace(tiny, log=replace(tiny.log, tensorboard=False))
    with run.acquire(config) as attempt:
        attempt.write_rows([row(0)])
    assert not (attempt.folder / EVENTS).exists()


def test_folder_that_cannot_be_made_is_one_warning(run, tiny, capsys):
    with run.acquire(tiny) as attempt:
        (attempt.folder / EVENTS).write_text("in the way")
        for n in range(3):
            attempt.write_rows([row(n)])
        attempt.sync_rows()
    assert [one["step"] for one in read_rows(attempt.folder)] == [0, 1, 2]
    assert capsys.readouterr().err.count(f"no more rows in tensorboard of {attempt.folder}: ") == 1


def test_full_disk_is_one_warning(tmp_path, capsys):
    events = TensorBoard(tmp_path)
    (tmp_path / EVENTS).mkdir()
    (tmp_path / EVENTS / EVENT_FILE).symlink_to("/dev/full")
    for n in range(3):
        events.write_rows([row(n)])
        events.flush()
    events.close()
    printed = capsys.readouterr().err
    assert printed.count("no more rows in tensorboard") == printed.count("No space left on device") == 1


@pytest.mark.parametrize(
    ("column", "tag"),
    [
        ("text_loss", "train/text_loss"),
        ("held_out_recall", "held_out/held_out_recall"),
        ("images_per_second", "machine/images_per_second"),
    ],
)
def test_tags_group_columns(column, tag):
    assert scalars_of({"step": 1, column: 0.5, "pixel_loss": None}) == {tag: 0.5}
