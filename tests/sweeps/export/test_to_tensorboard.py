"""Exports to TensorBoard, against its own reader."""

import numpy as np

from aimv2.runs.events import scalars_of
from sweeps.export.exporters import export
from tests.helpers.events import read_events
from tests.helpers.exported import FINAL, NAME, picture, record, rows


def test_later_export_replaces_the_run(tmp_path):
    pictures = picture(tmp_path, 1)
    for one in (record(3, state="running"), record(5, pictures=pictures)):
        said = export([one], "tensorboard", "a study", tmp_path)
    folder = tmp_path / "exports" / "tensorboard" / "a study"
    assert str(folder) in said
    assert [path.name for path in folder.iterdir()] == [f"uniform, seed 3, {NAME}"]
    scalars, images, times = read_events(folder / f"uniform, seed 3, {NAME}")
    for tag in scalars_of(rows(5)[1]):
        values = {row["step"]: scalars_of(row)[tag] for row in rows(5) if tag in scalars_of(row)}
        assert scalars[tag] == [(step, float(np.float32(value))) for step, value in values.items()]
    assert {name: scalars[f"final/{name}"] for name in FINAL} == {name: [(4, value)] for name, value in FINAL.items()}
    assert images == {"predictions": [(1, pictures[1].read_bytes())]}
    assert times[2] == 1_800_000_002.5


def test_run_named_alone_is_a_folder_of_its_name(tmp_path):
    export([record(2, arm="")], "tensorboard", "aimv2", tmp_path)
    assert (tmp_path / "exports" / "tensorboard" / "aimv2" / NAME).is_dir()
