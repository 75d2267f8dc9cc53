"""Rows that are looked for in long metrics files, against reading them whole."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.runs.rows import last_rows, read_rows, row_at


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("attempt")


def write(folder, rows, rest=""):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + rest)


@given(lengths=st.lists(st.integers(0, 60), max_size=40), step=st.integers(-1, 41), rest=st.sampled_from(["", '{"st']))
def test_the_row_of_a_step_is_found_wherever_it_lies(folder, lengths, step, rest):
    write(folder, [{"step": number, "text": "x" * length} for number, length in enumerate(lengths)], rest)
    expected = next((row for row in read_rows(folder) if row["step"] == step), None)
    assert row_at(folder, step, block=200) == expected


@given(lengths=st.lists(st.integers(0, 60), max_size=40), num_bytes=st.integers(1, 3000))
def test_the_last_rows_are_the_end_of_all_rows(folder, lengths, num_bytes):
    write(folder, [{"step": number, "text": "x" * length} for number, length in enumerate(lengths)])
    found, size = last_rows(folder, num_bytes), (folder / "metrics.jsonl").stat().st_size
    assert found == read_rows(folder)[len(lengths) - len(found) :]
    if num_bytes > size:
        assert len(found) == len(lengths)
    elif num_bytes >= 200:
        assert found


def test_few_bytes_are_read_of_a_long_run(folder, monkeypatch):
    write(folder, [{"step": number, "text_loss": 1 / (1 + number)} for number in range(100_000)])
    size, parsed, loads = (folder / "metrics.jsonl").stat().st_size, [], json.loads
    monkeypatch.setattr(json, "loads", lambda text: parsed.append(len(text)) or loads(text))
    assert row_at(folder, 77_777)["text_loss"] == 1 / 77_778
    assert sum(parsed) < size / 50


def test_what_is_not_there_is_no_row(tmp_path):
    assert (row_at(tmp_path, 0), last_rows(tmp_path)) == (None, [])
    write(tmp_path, [], 'no json\n[1]\n{"step": 3}\n')
    assert (row_at(tmp_path, 3), last_rows(tmp_path)) == ({"step": 3}, [{"step": 3}])
