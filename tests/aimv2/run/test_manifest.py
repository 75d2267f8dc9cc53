from dataclasses import replace

from aimv2.base.files import write_json
from aimv2.memory.setup import resolved, setup_of
from aimv2.run.manifest import manifest, rests_on

PLACE = {"host": "node1", "hardware": "a CPU", "threads": 1, "code": "5f0c1b7de1a2"}


def test_manifest_records_versions_data_and_size(tiny, pairs):
    config = replace(resolved(tiny, setup_of(tiny)), compile=False)
    found = manifest(config, pairs, None)
    assert found["threads"] == 1
    assert found["versions"]["torch"]
    assert set(found["data"]) == {"openmoji_scenes", "fontawesome_scenes"}
    assert found["parameters"]["encoder"] > 0
    setup = found["setup"]
    assert (setup["parallel"], setup["micro_batch"], setup["activation_checkpointing"]) == ("ddp", 8, False)
    assert setup["compile"] is False
    assert setup["predicted_bytes"]["weights"] == 4 * sum(found["parameters"].values())
    assert found["resumed"] is None


def attempts(run, *resumed):
    """Write a manifest for each attempt, with the attempt and the step that it resumed from, and return the last."""
    for number, found in enumerate(resumed, start=1):
        folder = run / "attempts" / f"{number:04}"
        folder.mkdir(parents=True)
        write_json(folder / "manifest.json", {**PLACE, "resumed": found, "command": ["train"]})
    return folder


def test_result_rests_on_the_attempts_whose_checkpoints_or_parts_it_used(tmp_path):
    folder = attempts(
        tmp_path,
        None,  # failed before a checkpoint
        None,
        {"attempt": 2, "step": 40},
        {"attempt": 2, "step": 40},  # measured parts of the evaluation
        {"attempt": 3, "step": 90},
    )
    assert rests_on(folder, [4]) == [
        {"attempt": 2, "from_step": 0, **PLACE},
        {"attempt": 3, "from_step": 40, **PLACE},
        {"attempt": 4, "from_step": 40, **PLACE},
        {"attempt": 5, "from_step": 90, **PLACE},
    ]


def test_attempt_without_a_readable_manifest_is_listed_without_values(tmp_path):
    folder = attempts(tmp_path, None, {"attempt": 1, "step": 40})
    (tmp_path / "attempts/0001/manifest.json").write_text("{")
    unknown = dict.fromkeys(PLACE)
    assert rests_on(folder, []) == [
        {"attempt": 1, "from_step": None, **unknown},
        {"attempt": 2, "from_step": 40, **PLACE},
    ]
