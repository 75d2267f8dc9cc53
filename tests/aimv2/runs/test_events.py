"""Events as TensorBoard's own reader finds them, against the rows; and events that cannot be written."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from aimv2.runs.attempt import pictures_of
from aimv2.runs.events import EVENTS, FILE, Events, scalars_of, tag_of
from aimv2.runs.rows import read_rows
from tests.helpers.events import read_events


def row(step, **values):
    return {"step": step, "samples": 8 * step, "seconds": 2.0 * step, "text_loss": 4 / (step + 1), **values}


def png(grey):
    Image.new("RGB", (7, 5), (grey, grey, grey)).save(stream := io.BytesIO(), "png")
    return stream.getvalue()


def expected(rows):
    """Return what the reader should find of rows: values in float32."""
    found = {}
    for one in rows:
        for name, value in one.items():
            if name != "step":
                found.setdefault(tag_of(name), []).append((one["step"], float(np.float32(value))))
    return found


def test_events_are_the_rows_of_the_record(run, tiny):
    with run.acquire(tiny) as attempt:
        attempt.write_rows([{"step": 0, "samples": 0, "seconds": 0.5, "held_out_caption_loss": 6.25}])
        attempt.write_rows([row(1), row(2, gemm_share=0.25, memory_bytes=3e9)])
        attempt.write_picture(png(9), 2)
    scalars, images, times = read_events(attempt.folder / EVENTS)
    assert scalars == expected(read_rows(attempt.folder))
    assert {"held_out/held_out_caption_loss", "train/text_loss", "machine/gemm_share"} < scalars.keys()
    assert images == {"predictions": [(2, png(9))]}
    assert times[2] - times[1] == 2.0
    assert times[1] - times[0] == 1.5, "the times are those of training, in seconds"


def test_events_are_read_while_the_run_trains(run, tiny):
    with run.acquire(tiny) as attempt:
        attempt.write_rows([row(0)])
        attempt.sync_rows()
        assert read_events(attempt.folder / EVENTS)[0] == expected([row(0)])


def test_resumed_attempt_continues_the_series(run, tiny):
    """The second attempt resumes from step 2, and repeats step 3."""
    with run.acquire(tiny) as first:
        first.write_rows([row(n) for n in range(4)])
        for step in (0, 2, 3):
            first.write_picture(png(step), step)
    with run.acquire(tiny) as second:
        second.resume_from([row(n) for n in range(3)], seconds=4.0, cpu_seconds=4.0, folder=first.folder)
        second.write_rows([row(3, text_loss=0.125)])
        second.write_rows([row(4)])
        second.write_picture(png(4), 4)
    scalars, images, times = read_events(second.folder / EVENTS)
    assert [step for step, _ in scalars["train/text_loss"]] == [0, 1, 2, 3, 4]
    assert scalars == expected(read_rows(second.folder))
    assert np.diff(list(times.values())).tolist() == [2.0] * 4
    assert images["predictions"] == [(step, png(step)) for step in (0, 2, 4)]
    assert {step: path.read_bytes() for step, path in pictures_of(second.folder).items()} == dict(images["predictions"])


def test_events_that_are_switched_off_leave_nothing(run, tiny):
    config = replace(tiny, log=replace(tiny.log, tensorboard=False))
    with run.acquire(config) as attempt:
        attempt.write_rows([row(0)])
        attempt.write_picture(png(0), 0)
    assert not (attempt.folder / EVENTS).exists()
    assert list(pictures_of(attempt.folder)) == [0]


def test_folder_that_cannot_be_made_is_one_warning(run, tiny, capsys):
    with run.acquire(tiny) as attempt:
        (attempt.folder / EVENTS).write_text("in the way")
        for n in range(3):
            attempt.write_rows([row(n)])
        attempt.write_picture(png(1), 2)
        attempt.sync_rows()
    assert [one["step"] for one in read_rows(attempt.folder)] == [0, 1, 2]
    assert capsys.readouterr().err.count(f"no more TensorBoard events in {attempt.folder / EVENTS}: ") == 1


def test_full_disk_is_one_warning(tmp_path, capsys):
    events = Events(tmp_path, is_on=True)
    (tmp_path / EVENTS).mkdir()
    (tmp_path / EVENTS / FILE).symlink_to("/dev/full")
    for n in range(3):
        events.write_rows([row(n)])
        events.flush()
    events.close()
    assert capsys.readouterr().err.count("No space left on device") == 1


def test_events_replace_earlier_ones(tmp_path):
    for loss in (1.0, 2.0):
        events = Events(tmp_path, is_on=True)
        events.write_rows([{"step": 3, "text_loss": loss}])
        events.close()
    assert read_events(tmp_path / EVENTS)[0] == {"train/text_loss": [(3, 2.0)]}


@pytest.mark.parametrize(
    ("column", "tag"),
    [
        ("text_loss", "train/text_loss"),
        ("held_out_recall", "held_out/held_out_recall"),
        ("images_per_second", "machine/images_per_second"),
    ],
)
def test_tags_group_columns(column, tag):
    assert tag_of(column) == tag
    assert scalars_of({"step": 1, column: 0.5, "pixel_loss": None}) == {tag: 0.5}
