"""Finding and loading a run, and runs that are broken."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from aimv2.analysis.verify.__main__ import find, load
from aimv2.base.errors import UsageError
from aimv2.data.tokenizer import CaptionTokenizer


def newest_attempt(path):
    return path / "attempts" / "0001"


def test_default_is_the_newest_finished_trained_run(copied, trained):
    runs_dir = copied.parent
    ages = {copied.name: 1000, "v2-000000000000": 1, "v2-111111111111": 2000, "v2-222222222222": 3000}
    for name, when in ages.items():
        path = runs_dir / name
        if name != copied.name:
            shutil.copytree(copied, path)
        os.utime(path / "result.json", (when, when))
    (runs_dir / "v2-111111111111" / "result.json").unlink()
    (runs_dir / "v2-222222222222" / "config.json").write_text(json.dumps(trained.untrained().to_dict()))
    assert find(None, runs_dir).path == copied
    for key in ("captions", "pixels"):
        (runs_dir / "v2-222222222222" / "config.json").write_text(json.dumps(trained.to_dict()))
        with_value("data", key, "shuffled")(runs_dir / "v2-222222222222")
        assert find(None, runs_dir).path == copied, "a control fails by design"
    os.utime(runs_dir / "v2-000000000000" / "result.json", (1001, 1001))
    assert find(None, runs_dir).path.name == "v2-000000000000"


def test_run_is_found_by_path_or_by_name_in_runs_dir(copied, monkeypatch):
    for run, runs_dir in ((str(copied), Path("runs")), (copied.name, copied.parent)):
        assert find(run, runs_dir).path == copied
    monkeypatch.chdir(copied)
    assert find(".", Path("runs")).path == copied


def remove(name):
    return lambda path: (path / name).unlink()


def overwrite(name, content):
    return lambda path: (path / name).write_bytes(content)


def in_attempt(change):
    return lambda path: change(newest_attempt(path))


def cut_short(path):
    content = (path / "weights.safetensors").read_bytes()
    (path / "weights.safetensors").write_bytes(content[: len(content) // 2])


def other_weights(path):
    save_file({"encoder.norm.weight": torch.ones(32)}, path / "weights.safetensors")


def with_value(part, key, value):
    def change(path):
        config = json.loads((path / "config.json").read_text())
        config[part][key] = value
        (path / "config.json").write_text(json.dumps(config))

    return change


def other_tokenizer(path):
    (path / "tokenizer.json").write_text(CaptionTokenizer.train(["a house", "a tree"], 300).to_json())


BROKEN = {
    "unfinished": (remove("result.json"), "is not finished, and only a finished run has weights"),
    "no config": (remove("config.json"), "is neither the folder of a run nor"),
    "torn config": (overwrite("config.json", b'{"scale"'), "config.json"),
    "config of another version": (with_value("model", "rotary", True), "unknown key 'model.rotary'"),
    "no weights": (in_attempt(remove("weights.safetensors")), "does not hold this run's weights"),
    "torn weights": (in_attempt(cut_short), "does not hold this run's weights"),
    "other weights": (in_attempt(other_weights), "does not hold this run's weights"),
    "no tokenizer": (in_attempt(remove("tokenizer.json")), "its tokenizer.json cannot be read"),
    "other tokenizer": (in_attempt(other_tokenizer), "the data packages changed"),
    "other data": (with_value("data", "fingerprint", "0123456789ab"), "the data packages changed"),
    "untrained": (with_value("budget", "samples", 0), "is no trained run on squares of one size"),
    "native": (with_value("native", "areas", [16]), "is no trained run on squares of one size"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_run_is_refused_in_one_sentence(copied, change, message):
    change(copied)
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        load(find(str(copied), Path("runs")))
    assert "\n" not in str(caught.value)
