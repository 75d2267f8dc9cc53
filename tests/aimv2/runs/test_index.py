"""Entries of the index, and writers and readers at the same time."""

import os
import threading
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from aimv2.base.errors import Cause
from aimv2.runs.index import FOLDER, Entry, read, remove, write

RUN = "v2-15b6f82b08fe"
NUMBERS = st.integers(1, 20000)
ENTRIES = st.one_of(
    st.tuples(st.sampled_from(["running", "idle"]), NUMBERS).map(lambda values: Entry(*values)),
    st.tuples(st.just("failed"), NUMBERS, st.sampled_from(get_args(Cause))).map(lambda values: Entry(*values)),
    st.tuples(NUMBERS, st.integers(1, 9)).map(lambda values: Entry("done", values[0], None, values[1], "5f0c1b7de1a2")),
)


@given(ENTRIES)
def test_a_name_is_read_as_the_entry_that_it_was_made_of(entry):
    assert Entry.parse(entry.name(RUN)) == (RUN, entry)


@given(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1))
def test_other_files_are_no_entries(name):
    if not any(f".{state}." in name for state in ("running", "idle", "failed", "done")):
        assert Entry.parse(name) is None


def test_the_latest_entry_of_a_run_counts(tmp_path):
    (tmp_path / FOLDER).mkdir()
    order = [
        Entry("running", 1),
        Entry("idle", 1),
        Entry("running", 2),
        Entry("failed", 2, "node"),
        Entry("running", 10),
    ]
    order.append(Entry("done", 3, layout=2, code="5f0c1b7de1a2"))  # a process that was believed dead published it
    for number, entry in enumerate(order, start=1):
        for one in order[:number]:
            (tmp_path / FOLDER / one.name(RUN)).touch()
        assert read(tmp_path) == {RUN: entry}


def test_a_late_writer_does_not_hide_its_successor(tmp_path):
    write(tmp_path, RUN, Entry("running", 2))
    write(tmp_path, RUN, Entry("idle", 1))
    assert read(tmp_path) == {RUN: Entry("running", 2)}
    write(tmp_path, RUN, Entry("idle", 2))
    assert os.listdir(tmp_path / FOLDER) == [Entry("idle", 2).name(RUN)]


def test_a_run_that_is_acquired_again_is_no_longer_done(tmp_path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / f"{Entry('done', 2, layout=2).name(RUN)}.clean").touch()  # of an older version
    write(tmp_path, RUN, Entry("done", 3, layout=2))
    write(tmp_path, RUN, Entry("running", 1))  # by a process that has read the folder before it was done
    assert read(tmp_path) == {RUN: Entry("done", 3, layout=2)}
    write(tmp_path, RUN, Entry("running", 1), has_no_result=True)
    assert read(tmp_path) == {RUN: Entry("running", 1)}
    remove(tmp_path, RUN, Entry("running", 1))
    remove(tmp_path, RUN, Entry("running", 1))
    assert read(tmp_path) == {}


def test_a_reader_always_sees_the_run(tmp_path):
    write(tmp_path, RUN, Entry("running", 1))
    is_over = threading.Event()

    def change():
        for number in range(1, 400):
            write(tmp_path, RUN, Entry("idle", number))
            write(tmp_path, RUN, Entry("running", number + 1))
        is_over.set()

    thread = threading.Thread(target=change)
    thread.start()
    seen = []
    while not is_over.is_set():
        seen.append(read(tmp_path)[RUN].attempt)
    thread.join()
    assert seen == sorted(seen)
