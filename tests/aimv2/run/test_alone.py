"""Runs that measure one metric of a finished run's weights, and do nothing else."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.base.plugins import using
from aimv2.config.program import replaced
from aimv2.evaluation.features import encode
from aimv2.evaluation.held_out import Words, prepare_pairs
from aimv2.evaluation.prepare import of_split, prepare_evaluation
from aimv2.objectives.build import build
from aimv2.request.resolve import resolve
from aimv2.run.execute import execute
from aimv2.run.price import price
from aimv2.run.reuse import WEIGHTS, chosen_metric, measured_run, metric_of, reusable
from aimv2.runs.attempt import ITEMS
from aimv2.runs.record import RunFolder
from aimv2.runs.tensor_file import read_tensors
from aimv2.sweeps.replay import recorded_in_folder, replay
from tests.helpers.metrics import metric_file


def unevaluated(*data):
    """Stand in for ``evaluate``, which takes most of a small run's time."""
    return {}


@pytest.fixture(autouse=True)
def unloaded():
    """Unload the plug-ins of a test."""
    with using([]):
        yield


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """Return the folder of a finished run and its untrained encoder, which nothing changes."""
    runs_dir = tmp_path_factory.mktemp("finished")
    for config in (tiny, tiny.untrained()):
        assert execute(RunFolder(runs_dir, config.name).acquire(config), config, evaluate=unevaluated) is None
    return runs_dir


@pytest.fixture
def runs_dir(finished, tmp_path):
    """Return a copy of it, to change."""
    return shutil.copytree(finished, tmp_path / "runs")


def measured(runs_dir, run):
    """Execute a run that measures a metric; return its folder and why it failed."""
    folder = RunFolder(runs_dir, run.name)
    return folder, execute(folder.acquire(run), run)


def test_number_is_that_of_the_finished_weights_and_the_finished_run_stays_as_it_is(tiny, pairs, runs_dir, tmp_path):
    before = {path: path.read_bytes() for path in runs_dir.rglob("*") if path.is_file() and path.parent.name != "index"}
    chosen = chosen_metric(f"{metric_file(tmp_path, 'spread')}:spread")
    for config in (tiny, tiny.untrained()):
        run, failure = measured(runs_dir, chosen.of(config))
        assert failure is None
        network = build(config)
        network.load_state_dict(read_tensors(RunFolder(runs_dir, config.name).file(WEIGHTS)))
        held_out = prepare_pairs(
            of_split(pairs.held_out, config.evaluation.num_items, config.evaluation), Words.of(pairs.tokenizer, config)
        )
        expected = encode(network.encoder, held_out.images, config).mean(dim=1).std()
        assert run.result()["metrics"] == {
            "spread": {
                "value": pytest.approx(float(expected)),
                "unit": "share",
                "evaluation": f"48 held-out pairs, by {chosen.plugin.id} after the run (evaluation {chosen.digest})",
                "warning": "",
            }
        }
        assert not run.file(WEIGHTS).exists()
        assert not run.file(ITEMS).exists()
        assert replay(recorded_in_folder(run), lambda line: None)
    assert {path: path.read_bytes() for path in before} == before


def test_ratio_has_the_items_of_the_held_out_pairs(tiny, pairs, runs_dir, tmp_path):
    run, failure = measured(runs_dir, chosen_metric(f"{metric_file(tmp_path, 'ratio')}:ratio").of(tiny))
    assert failure is None
    table = pd.read_parquet(run.file(ITEMS))
    assert set(table["metric"]) == {"ratio"}
    held_out = of_split(pairs.held_out, 48, tiny.evaluation)
    assert set(table["item"]) == set(held_out.items(np.arange(48)))
    assert run.result()["metrics"]["ratio"]["value"] == pytest.approx(table["total"].sum() / table["weight"].sum())


def test_each_held_out_image_is_prepared_and_encoded_once_whatever_the_training(tiny, pairs, runs_dir, tmp_path):
    chosen = chosen_metric(f"{metric_file(tmp_path, 'work')}:work")
    runs = [chosen.of(config) for config in (tiny, tiny.untrained())]
    for run in runs:
        folder, failure = measured(runs_dir, run)
        assert failure is None
        assert folder.result()["metrics"]["work"]["value"] == tiny.evaluation.num_items
        assert folder.result()["train_flops"] == 0
    first, second = (prepare_evaluation(pairs, run) for run in runs)
    assert first is second


def test_labels_are_those_of_the_probes(tiny, runs_dir, tmp_path):
    run, failure = measured(runs_dir, chosen_metric(f"{metric_file(tmp_path, 'labels')}:labels").of(tiny))
    assert failure is None
    assert run.result()["metrics"]["labels"]["value"] == 4, "object, ink, count and digits"


def test_another_run_another_content_and_another_metric_are_other_runs(tiny, tmp_path):
    names = {tiny.name}
    for name, more, config in (
        ("spread", "", tiny),
        ("spread", "", replaced(tiny, {"seed": 1})),
        ("spread", "# edited", tiny),
        ("ratio", "", tiny),
    ):
        with using([]):
            names.add(chosen_metric(f"{metric_file(tmp_path, name, more)}:{name}").of(config).name)
    assert len(names) == 5
    with using([]):
        elsewhere = chosen_metric(f"{metric_file(tmp_path / 'b', 'ratio')}:ratio").of(tiny)
    assert elsewhere.name in names, "where the file is makes no difference"


LAW = """
import numpy as np
from aimv2.extend import prefix_distribution


@prefix_distribution
def half(num_patches):
    return np.full(num_patches - 1, 1 / (num_patches - 1))
"""


@pytest.mark.parametrize("values", [{"evaluation.metrics": ("late",)}, {"prefix.law": "half"}])
def test_an_edited_plugin_of_the_run_may_measure_another_metric(tiny, tmp_path, values):
    """The run was trained with an earlier version, which its weights do not need any more."""
    path = metric_file(tmp_path, "late", LAW)
    with using([path]):
        config = resolve(replaced(tiny, values))
        assert len(config.plugins) == 1
        run = RunFolder(tmp_path / "runs", config.name)
        assert execute(run.acquire(config), config, evaluate=unevaluated) is None
    path.write_text(path.read_text().replace("0.5", "0.25"))
    found, failure = measured(tmp_path / "runs", chosen_metric(f"{path}:late").of(config))
    assert failure is None
    assert found.result()["metrics"]["late"]["value"] == 0.25


def test_a_run_of_several_ranks_is_measured_by_one(tiny, tmp_path):
    run = chosen_metric(f"{metric_file(tmp_path, 'spread')}:spread").of(replaced(tiny, {"ranks": 2}))
    assert (run.ranks, run.budget.samples) == (1, 0)
    cost = price([run], lambda config: None)
    assert (cost.flops, cost.weights_bytes, cost.checkpoint_bytes) == (0, 0, 0)


def test_run_that_measures_is_no_training_to_reuse(tiny, runs_dir, tmp_path):
    measured(runs_dir, chosen_metric(f"{metric_file(tmp_path, 'spread')}:spread").of(tiny))
    other = replaced(tiny, {"evaluation.knn_neighbours": 3})
    assert [one.folder.name for one in reusable({"it": other}, runs_dir).values()] == [tiny.name]


@pytest.mark.parametrize(
    ("name", "cause", "message"),
    [
        ("raises", "bug", "metric raises: ValueError: no such layer"),
        ("nothing", "bug", "metric nothing returned None, which is neither a number nor Items"),
        ("text", "bug", "metric text returned '0.5', which is neither a number nor Items"),
        ("many", "bug", "metric many returned tensor([1., 1.]), which is neither a number nor Items"),
        ("nan", "not finite", "metric nan is nan after training"),
        ("inf", "not finite", "metric inf is inf after training"),
        ("decoder", "bug", "metric decoder: AttributeError: "),
    ],
)
def test_bad_metric_is_one_sentence_of_its_own_run(tiny, runs_dir, tmp_path, name, cause, message):
    run, failure = measured(runs_dir, chosen_metric(f"{metric_file(tmp_path, name)}:{name}").of(tiny))
    assert failure.cause == cause
    assert failure.message.startswith(message)
    assert "\n" not in failure.message
    assert not run.is_done
    assert RunFolder(runs_dir, tiny.name).is_done


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("gone.py:cka", r"plug-in \S+gone.py: there is no such file"),
        ("{file}", r"metric=\S+spread.py must be FILE:NAME, as in metric=\S+spread.py:NAME"),
        ("{file}:sprad", r"unknown metric of \S+spread.py 'sprad'. Did you mean 'spread'?"),
        ("{empty}:cka", r"plug-in \S+empty.py has no metric"),
        ("{broken}:cka", r"plug-in \S+broken.py cannot be loaded: SyntaxError"),
        ("cka", r"metric=cka must be FILE:NAME, as in metric=my.py:cka"),
        ("content_loss", r"metric=content_loss is built in"),
    ],
)
def test_metric_that_cannot_be_loaded_is_one_sentence(tmp_path, typed, message):
    files = {"file": metric_file(tmp_path, "spread")}
    for name, text in (("empty", "x = 1\n"), ("broken", "def\n")):
        files[name] = tmp_path / f"{name}.py"
        files[name].write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        chosen_metric(typed.format(**files))
    assert "\n" not in str(caught.value)


def test_weights_of_another_run_or_none_are_refused(tiny, runs_dir, tmp_path):
    run = chosen_metric(f"{metric_file(tmp_path, 'spread')}:spread").of(tiny)
    other = replaced(run, {"evaluation.alone.run": tiny.untrained().name})
    with pytest.raises(RunFailedError, match="is not the one that"):
        measured_run(other, other.evaluation.alone, runs_dir)
    RunFolder(runs_dir, tiny.name).file(WEIGHTS).unlink()
    _, failure = measured(runs_dir, run)
    assert failure.cause == "data"
    assert re.fullmatch(r"the weights of run v2-\w+ are gone; launch its sweep again", failure.message)


def test_metric_that_was_edited_after_the_launch_is_not_measured(tiny, tmp_path):
    run = chosen_metric(f"{metric_file(tmp_path, 'spread')}:spread").of(tiny)
    edited = replaced(run, {"evaluation.alone.digest": "0123456789ab"})
    assert metric_of(run.evaluation.alone).metric.name == "spread"
    with pytest.raises(
        RunFailedError,
        match=r"spread\.py or the code was edited after metric spread was",
    ):
        metric_of(edited.evaluation.alone)


def test_no_command_line_sets_it(tiny, tmp_path):
    with pytest.raises(UsageError, match="is of runs that older versions made"):
        resolve(chosen_metric(f"{metric_file(tmp_path, 'spread')}:spread").of(tiny))


def test_features_are_without_gradients(tiny, runs_dir, tmp_path):
    assert torch.is_grad_enabled()
    _, failure = measured(runs_dir, chosen_metric(f"{metric_file(tmp_path, 'graph')}:graph").of(tiny))
    assert failure is None
