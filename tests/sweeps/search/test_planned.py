"""A search as a launch displays it."""

from dataclasses import replace

from rich.console import Console

from aimv2.ablations.design import latin_hypercube, setting
from aimv2.sweeps.executors.local import LocalExecutor
from aimv2.sweeps.search.folder import SearchFolder
from aimv2.sweeps.search.planned import PlannedSearch
from tests.helpers.trials import do, requested, search, settle

BOX = latin_hypercube(
    {"recipe": setting("recipe", {})}, linear={}, log={"optimizer.peak_lr": (1e-4, 1e-2)}, num_points=2
)


def printed(one, runs_dir):
    console = Console(record=True, width=200)
    PlannedSearch(one, requested(one), runs_dir).show(console, LocalExecutor(), lambda config: None)
    return console.export_text()


def test_the_display_says_what_is_searched_how_and_what_the_result_will_be(tiny, tmp_path):
    text = printed(search(tiny, design=BOX, trials=3), tmp_path)
    assert "optimizer.peak_lr: 0.0001 to 0.01, on a logarithmic scale" in text
    how = "minimize content_loss on the validation split; sampler tpe, pruned by asha on held_out_caption_loss"
    assert f"{how} (what differences are noise was not measured: sensitivity=auto measures it), trials" in text
    curves = {"held_out_caption_loss": {8: 0.1, 16: 0.2}}
    text = printed(replace(search(tiny, design=BOX, trials=3), curves=curves), tmp_path)
    assert f"{how} (not within its noise, 0.39), trials" in text
    assert "the winner is compared with the baseline, recipe, on seeds 0, 1; that is the result" in text
    assert "3 trials: none yet" in text
    assert "price: at most " in text


def test_the_display_counts_trials(tiny, tmp_path):
    one = search(tiny, trials=3)
    do(tmp_path, SearchFolder(one, tmp_path).ask(), content_loss=1.0)
    folder = SearchFolder(one, tmp_path)
    settle(folder)
    folder.ask()
    assert "3 trials: 1 finished, 1 running" in printed(one, tmp_path)


def test_a_complete_search_has_nothing_left_to_do(tiny, tmp_path):
    one, losses = search(tiny, trials=2, seeds=(0,)), iter((3.0, 2.0, 2.0, 2.0))  # the second trial wins
    for is_last in (False, True):
        for task in PlannedSearch(one, requested(one), tmp_path).work.task_list(tmp_path).take():
            do(tmp_path, task, content_loss=next(losses))
        assert ("nothing is left to do" in printed(one, tmp_path)) == is_last


def test_a_small_space_is_announced(tiny, tmp_path):
    text = printed(search(tiny, sweep="norm_ffn", trials=24), tmp_path)
    assert "norm: rms, layer" in text
    assert "note: the space has 4 points, and each is tried once" in text
