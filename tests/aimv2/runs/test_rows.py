"""Rows found in parts of metrics files, against reading the files whole."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.runs.rows import last_row, last_rows, losses_of, read_rows, rows_at


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


def test_rows_at_parses_few_bytes_of_a_long_run(folder, monkeypatch):
    write(folder, [{"step": number, "text_loss": 1 / (1 + number)} for number in range(20_000)])
    size, parsed, loads = (folder / "metrics.jsonl").stat().st_size, [], json.loads
    monkeypatch.setattr(json, "loads", lambda text: parsed.append(len(text)) or loads(text))
    assert rows_at(folder, [17_777])[17_777]["text_loss"] == 1 / 17_778
    assert sum(parsed) < size / 20


def test_losses_are_those_of_training():
    row = {"step": 3, "held_out_caption_loss": 9.0, "text_loss": 1.5, "pixel_loss": 0.25}
    assert losses_of(row) == "text 1.500  pixel 0.250"


def test_missing_and_broken_rows_are_left_out(tmp_path):
    assert (rows_at(tmp_path, [0]), list(last_rows(tmp_path, 99)), last_row(tmp_path)) == ({}, [], {})
    write(tmp_path, [], 'no json\n[1]\n{"step": 3}\n')
    assert (rows_at(tmp_path, [3]), list(last_rows(tmp_path, 99))) == ({3: {"step": 3}}, [{"step": 3}])
