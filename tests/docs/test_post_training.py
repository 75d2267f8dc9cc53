"""The commands of docs/post-training.md, on a finished run and an imported folder with the names of the page."""

import shlex

import pytest

from aimv2.config.program import replaced
from aimv2.config.recipes.scales import demo
from aimv2.objectives.build import build
from aimv2.request.resolve import resolve
from aimv2.tools.weights import read_weights, write_weights
from tests.helpers.finished_runs import finished_run
from tests.helpers.pages import ROOT, cheap, commands

COMMANDS = {shlex.join(words): cheap(words) for words in commands(ROOT / "docs" / "post-training.md")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, cache_dir):
    """A folder with the run and the weights that the page names."""
    path = tmp_path_factory.mktemp("page")
    config = resolve(replaced(demo(), {"data.cache_dir": cache_dir, "model.vocab_size": 300}), available="cpu")
    run = finished_run(path / "runs", config, build(config))
    write_weights(read_weights(run.path), path / "aimv2-large-patch14-224")
    run.path.rename(path / "runs" / "v2-15b6f82b08fe")
    return path


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_command_parses_and_plans(words, folder, cache_dir, in_process, monkeypatch):
    monkeypatch.chdir(folder)
    more = [] if words[1] == "-m" else [f"data.cache_dir={cache_dir}"]
    status, output = in_process([*words[1:], *more])
    assert (status, "training FLOPs" in output) == (0, True), output
