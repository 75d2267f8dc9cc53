"""The trials of a search: numbers are exact, points are new, and every trial ends."""

import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from typing import get_args

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.ablations.design import Arm, factorial, latin_hypercube, setting
from aimv2.ablations.searches import State
from aimv2.ablations.study import WINNER
from aimv2.base import files
from aimv2.base.errors import UsageError
from aimv2.base.files import write_json
from aimv2.config.training_config import BudgetConfig
from aimv2.runs.failure import Failure
from aimv2.runs.index import Entry
from aimv2.runs.record import RUN_NAME
from aimv2.sweeps.plan import Task
from aimv2.sweeps.search.space import Sampler
from aimv2.sweeps.search.trials import (
    ARM,
    DRAWN,
    ENDED,
    MAX_FAILED,
    SearchFolder,
    Trial,
    draw,
    file_of,
    folder_of,
    read_trials,
    trials_of,
)
from aimv2.sweeps.search.work import SearchTasks, to_json
from tests.helpers.files import files_limited_to
from tests.helpers.marks import exhaustive
from tests.helpers.trials import BOX, begin, do, end_trial, search, settle

LEVELS = tuple("abc")
GRID = factorial(
    {name: setting(name, {"objective.pixel_weight": number / 10}) for number, name in enumerate(LEVELS)},
    {name: setting(name, {"optimizer.peak_lr": 1e-3 + number / 1e4}) for number, name in enumerate(LEVELS)},
    names=("weight", "rate"),
)
SWITCH = factorial({"on": setting("on", {}), "off": setting("off", {"objective.pixel_weight": 0.0})}, names=("pixels",))
NUM_TRIALS = 18


def states(folder):
    return [trial.state for trial in folder.trials]


def content(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def ask_all(one, runs_dir, count):
    """Ask for trials until there is none, as a worker does that does its trials at once."""
    folder = SearchFolder(one, runs_dir)
    while (task := folder.ask()) is not None:
        do(runs_dir, task, content_loss=float(task.trial))
        settle(folder)
        count.append(task.trial)


def refusal(call, *arguments):
    """Return the one sentence with which a call is refused."""
    with pytest.raises(UsageError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def drawn(one, used, number=7):
    study = optuna.create_study(direction=one.goal.direction)
    for _ in range(number):
        study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL))
    return draw(one, study, used)


def test_the_first_point_is_the_baseline_and_it_is_drawn_again_only_if_it_has_failed(tiny, tmp_path):
    one = search(tiny)
    assert drawn(one, [], number=0) == (one.baseline, one.run(one.baseline))
    assert drawn(one, [one.run(one.baseline).name], number=1)[0] != one.baseline
    assert drawn(one, ["another"], number=5)[0] == one.baseline
    task = SearchFolder(one, tmp_path).ask()
    assert (task.trial, task.config) == (0, one.run(one.baseline))


def test_a_space_of_points_that_cannot_exist_is_one_sentence(tiny):
    box = latin_hypercube(
        {"base": setting("base", {})}, linear={"model.encoder.width": (32.5, 33.5)}, log={}, num_points=1
    )
    with pytest.raises(UsageError, match="200 points in a row are impossible or were tried, the last one"):
        drawn(search(tiny, design=box), ["another"])


@pytest.mark.parametrize("sampler", get_args(Sampler))
def test_each_sampler_draws_every_point_of_a_finite_space_once(tiny, tmp_path, sampler):
    one = search(tiny, sweep="norm_ffn", sampler=sampler, trials=9)
    folder = SearchFolder(one, tmp_path)
    while (task := folder.ask()) is not None:
        do(tmp_path, task, **{one.metric: float(task.trial)})
        settle(folder)
    assert {trial.run for trial in folder.trials} == set(one.points)
    assert len(folder.trials) == len(one.points) == 4


def loss(point):
    """A bowl with its bottom at a weight of 0.7 and a rate of 1e-3."""
    return (point["objective.pixel_weight"] - 0.7) ** 2 + (math.log10(point["optimizer.peak_lr"]) + 3) ** 2


# Runs of searches of 12 trials in a box, whose results are those of ``loss``, as earlier versions drew them.
DRAWN_BEFORE = {
    "random": [0.59607, 0.43574, 0.03864, 0.93147, 0.14341, 0.57212, 0.59982, 0.09736, 0.10311, 0.77353, 0.29944],
    "tpe": [0.59607, 0.43574, 0.03864, 0.93147, 0.14341, 0.57212, 0.59982, 0.09736, 0.10311, 0.84627, 0.84326],
    "qmc": [0.47667, 0.79087, 0.71863, 0.0294, 0.21257, 0.52384, 0.98285, 0.29654, 0.31673, 0.88044, 0.61288],
}


@pytest.mark.parametrize("sampler", DRAWN_BEFORE)
def test_a_search_draws_the_points_that_it_always_has(tiny, tmp_path, sampler):
    """If this must change, stored searches are continued with other points."""
    one, points = search(tiny, design=BOX, sampler=sampler, trials=12), []
    while (task := SearchFolder(one, tmp_path).ask()) is not None:
        points.append(SearchFolder(one, tmp_path).trials[task.trial].params)
        do(tmp_path, task, content_loss=loss(points[-1]))
        settle(SearchFolder(one, tmp_path))
    assert [round(point["objective.pixel_weight"], 5) for point in points[1:]] == DRAWN_BEFORE[sampler]


@pytest.mark.parametrize("sampler", [exhaustive("tpe"), exhaustive("gp")])
def test_each_sampler_that_learns_descends_in_a_box(tiny, tmp_path, sampler):
    one = search(tiny, design=BOX, sampler=sampler, trials=NUM_TRIALS)
    one.check()
    folder = SearchFolder(one, tmp_path)
    for _ in range(NUM_TRIALS):
        task = folder.ask()
        point = folder.trials[task.trial].params
        assert 0 <= point["objective.pixel_weight"] <= 1
        assert 1e-4 <= point["optimizer.peak_lr"] <= 1e-2
        assert do(tmp_path, task, content_loss=loss(point))
        settle(folder)
    assert folder.ask() is None
    assert len({tuple(trial.params.values()) for trial in folder.trials}) == NUM_TRIALS
    losses = [trial.values[0] for trial in folder.trials]
    assert min(losses) < 0.1
    assert sum(losses[NUM_TRIALS // 2 :]) < sum(losses[: NUM_TRIALS // 2]), "later trials are better"


def test_several_processes_draw_exactly_the_trials_that_are_wanted_and_no_point_twice(tiny, tmp_path):
    context, one = multiprocessing.get_context("fork"), search(tiny, design=GRID, trials=8, sampler="random")
    with context.Manager() as manager:
        drawn = manager.list()
        workers = [context.Process(target=ask_all, args=(one, tmp_path, drawn)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0] * 4
        assert sorted(drawn) == list(range(8))
    trials = SearchFolder(one, tmp_path).trials
    assert [(trial.number, trial.state) for trial in trials] == [(number, "finished") for number in range(8)]
    assert len({trial.run for trial in trials}) == 8
    assert len(list(tmp_path.glob("v*/attempts/*"))) == 8
    assert not list(tmp_path.glob("searches/*/.*")), "no process left a temporary file"


def test_a_point_that_another_worker_draws_in_between_is_drawn_by_it_alone(tiny, tmp_path):
    others = []

    def drawing(config):
        if others:
            others.pop().ask()
        return config

    levels = {"a": Arm(label="a", change=drawing), "b": setting("b", {"objective.pixel_weight": 0.0})}
    one = search(tiny, design=factorial(levels, names=("x",)), trials=2)
    folder = SearchFolder(one, tmp_path)
    others.append(SearchFolder(one, tmp_path))
    assert folder.ask().trial == 1
    first, second = folder.trials
    assert first.run != second.run
    assert folder.ask() is None


def test_a_finite_space_ends_with_its_points_and_more_trials_continue_a_search(tiny, tmp_path):
    drawn = []
    ask_all(search(tiny, design=GRID, trials=30), tmp_path / "finite", drawn)
    assert drawn == list(range(9))
    for trials in (2, 5):
        ask_all(search(tiny, trials=trials), tmp_path / "more", drawn)
    assert drawn[9:] == [0, 1, 2, 3, 4]


def test_a_folder_that_is_only_read_stays_as_it_is(tiny, tmp_path):
    one = search(tiny, trials=3, seeds=(0,))
    for _ in range(2):
        task = SearchFolder(one, tmp_path).ask()
    do(tmp_path, task, content_loss=2.5)
    before = content(tmp_path)
    folder = SearchFolder(one, tmp_path, is_read_only=True)
    assert [trial.state for trial in settle(folder)] == ["running", "finished"]
    folder.show_winners(["a run"])
    assert content(tmp_path) == before
    assert states(SearchFolder(one, tmp_path)) == ["running", "running"]


@pytest.mark.parametrize(("cause", "state", "num_left"), [("not finite", "pruned", 0), ("bug", "failed", 1)])
def test_a_run_that_diverges_is_a_result_and_one_that_fails_is_not(tiny, tmp_path, cause, state, num_left):
    one = search(tiny, trials=1)
    task = SearchFolder(one, tmp_path).ask()
    with begin(tmp_path, task) as attempt:
        attempt.fail(Failure(cause, "a test"), "")
    folder = SearchFolder(one, tmp_path)
    (trial,) = settle(folder)
    assert (trial.state, trial.note) == (state, f"{cause}: a test")
    assert folder.num_new([trial]) == num_left


def test_a_launch_whose_trials_fail_ends_and_the_next_one_goes_on(tiny, tmp_path):
    folder = SearchFolder(search(tiny), tmp_path)
    for number in range(MAX_FAILED):
        assert end_trial(folder, "failed").trial == number
    assert folder.ask() is None
    assert len({trial.run for trial in folder.trials}) == MAX_FAILED, "no failed point is drawn again"
    assert SearchFolder(search(tiny), tmp_path, failed_before=range(MAX_FAILED)).ask().trial == MAX_FAILED


def test_a_point_that_failed_in_an_earlier_launch_is_drawn_again_in_a_finite_space(tiny, tmp_path):
    one = search(tiny, design=GRID, trials=9)
    folder = SearchFolder(one, tmp_path)
    lost = folder.ask()
    with begin(tmp_path, lost) as attempt:
        attempt.fail(Failure("bug", "a test"), "")
    drawn = []
    ask_all(one, tmp_path, drawn)
    assert drawn == list(range(1, 9)), "this launch tries no point twice"
    folder = SearchFolder(one, tmp_path)
    assert folder.num_new(settle(folder)) == 0
    folder = SearchFolder(one, tmp_path, failed_before=[0])
    again = folder.ask()
    assert (again.trial, again.name, again.after) == (9, lost.name, 1)
    do(tmp_path, again, content_loss=1.0)
    assert [trial.state for trial in settle(folder)] == ["failed"] + ["finished"] * 9
    assert folder.ask() is None


@pytest.mark.parametrize("damage", ["another metric", "garbage", "deleted"])
def test_a_result_that_is_none_is_a_failure_with_its_reason(tiny, tmp_path, damage):
    folder = SearchFolder(search(tiny, trials=1), tmp_path)
    do(tmp_path, task := folder.ask(), **{"caption_loss" if damage == "another metric" else "content_loss": 2.5})
    path = tmp_path / task.name / "result.json"
    if damage == "garbage":
        path.write_text("garbage")
    if damage == "deleted":
        path.unlink()
    folder.settle([task.name])
    (trial,) = SearchFolder(folder.search, tmp_path).trials
    reason = "its run has no content_loss" if damage == "another metric" else f"{path} is not the result of a run; "
    assert (trial.state, trial.note.startswith(reason)) == ("failed", True)


def test_a_trial_ends_once(tiny, tmp_path):
    one = search(tiny, trials=1)
    folder, other = SearchFolder(one, tmp_path), SearchFolder(one, tmp_path)
    folder.ask()
    (trial,) = folder.trials
    folder.end(replace(trial, state="pruned"))
    other.end(replace(trial, state="finished", values=(1.0,)))
    assert states(folder) == states(other) == ["pruned"]


def test_a_full_disk_loses_no_trial(tiny, tmp_path):
    one, path = search(tiny, trials=4), folder_of(tmp_path, "a_search")
    with pytest.raises(OSError, match=r"No space left|File too large"), files_limited_to(10):
        SearchFolder(one, tmp_path)
    folder = SearchFolder(one, tmp_path)
    for number in range(4):
        before = content(path)
        with pytest.raises(OSError, match=r"No space left|File too large"), files_limited_to(number * 50):
            folder.ask()
        assert content(path) == before
        do(tmp_path, folder.ask(), content_loss=float(number))
        before = content(path)
        with pytest.raises(OSError, match=r"No space left|File too large"), files_limited_to(number * 50):
            settle(folder)
        assert content(path) == before
        assert states(SearchFolder(one, tmp_path, is_read_only=True)) == ["finished"] * number + ["running"]
        settle(folder)
    assert states(folder) == ["finished"] * 4
    assert folder.ask() is None


def killed_at_line(number, call, *arguments):
    """Call a function in a process of its own, which is killed at the n-th line of those that write files.

    Returns:
        True if it was; False if it did not come that far.
    """

    def at_line(frame, event, _):
        nonlocal number
        if frame.f_code.co_filename != files.__file__:
            return None
        number -= event == "line"
        if number < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return at_line

    def target():
        sys.settrace(at_line)
        call(*arguments)

    process = multiprocessing.get_context("fork").Process(target=target)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


@pytest.mark.exhaustive
def test_a_worker_that_is_killed_at_any_line_leaves_a_trial_or_none(tiny, tmp_path):
    one = search(tiny, trials=2)

    def work(runs_dir):
        folder = SearchFolder(one, runs_dir)
        end_trial(folder, "pruned")

    number, found = 0, set()
    while killed_at_line(number, work, tmp_path / str(number)):
        folder = SearchFolder(one, tmp_path / str(number))
        found.add(tuple(trial.state for trial in folder.trials))
        drawn = [folder.ask().trial for _ in range(folder.num_new(folder.trials))]
        assert [*range(2)][2 - len(drawn) :] == drawn
        assert len({trial.run for trial in folder.trials}) == 2
        number += 1
    assert found == {(), ("running",), ("pruned",)}


@pytest.mark.parametrize("name", ["search.json", "0000.json", "0002-end.json", "winners.json"])
@pytest.mark.parametrize(
    "text", [b"not json\n", b"[1]", b'{"garbage": 0}', b"\xff\xfe\n", b"", b'{"run":1,"params":[]}']
)
def test_garbage_in_a_file_is_one_sentence(tiny, tmp_path, name, text):
    one, path = search(tiny), folder_of(tmp_path, "a_search") / name
    folder = SearchFolder(one, tmp_path)
    folder.ask()
    folder.ask()
    end_trial(folder, "pruned")
    path.write_bytes(text)
    with pytest.raises(UsageError, match="a_search") as caught:
        SearchFolder(one, tmp_path).show_winners([str(number) for number in settle(SearchFolder(one, tmp_path))])
    assert str(path if name != "search.json" or text[1:2] != b'"' else path.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trial_that_is_missing_or_of_another_space_is_named(tiny, tmp_path):
    folder = SearchFolder(search(tiny), tmp_path)
    for _ in range(3):
        folder.ask()
    (path := folder.path / "0000.json").write_text(path.read_text().replace("objective.pixel_weight", "another"))
    assert refusal(folder.ask).startswith(f"trial 0 in {folder.path} is corrupt: ")
    (path := folder.path / "0001.json").unlink()
    assert refusal(folder.ask).startswith(f"{path} cannot be read as JSON; restore the file, or move")


@pytest.mark.parametrize(
    "damage",
    [
        {"params": {}},
        {"params": {"objective.pixel_weight": "x"}},
        {"params": {"objective.pixel_weight": -99.0}},
        {"run": "v2-000000000000"},
        {"run": "../../etc"},
        {"curve": {"-1": 1.0}},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["", "-end"])
def test_a_trial_whose_content_is_impossible_is_named(tiny, tmp_path, damage, kind):
    one = search(tiny, trials=1)
    SearchFolder(one, tmp_path).ask()
    if kind:
        end_trial(SearchFolder(one, tmp_path), "finished", Task("", tiny, 0, trial=0), 1.0)
    path = folder_of(tmp_path, "a_search") / f"0000{kind}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    folder = SearchFolder(one, tmp_path)
    with pytest.raises(UsageError, match=r"a_search.* (is corrupt|restore the file)"):
        to_json(folder, trials := settle(folder), folder.winner(trials), is_baseline=False)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"sampler": "random"}, 'search.sampler was "tpe" and is "random"'),
        ({"seed": 501}, "search.seed was 500 and is 501"),
        ({"design": GRID}, 'space was {"objective.pixel_weight": '),
        ({"budget": BudgetConfig(samples=32, batch_size=8)}, "budget.samples was 16 and is 32. Give this one"),
    ],
)
def test_a_search_that_has_changed_is_refused_and_what_differs_is_named(tiny, tmp_path, change, what):
    SearchFolder(search(tiny), tmp_path)
    base = replace(tiny, budget=change.pop("budget", tiny.budget))
    with pytest.raises(UsageError, match="is of another search") as caught:
        SearchFolder(search(base, **change), tmp_path)
    assert what in str(caught.value)
    assert "move the folder away" in str(caught.value)


def test_trials_of_another_process_are_left_to_it(tiny, tmp_path):
    one = search(tiny, trials=1)
    task = SearchFolder(one, tmp_path).ask()
    with begin(tmp_path, task):
        assert settle(SearchFolder(one, tmp_path))[0].state == "running"
    assert (tmp_path / "index" / Entry("idle", 1).name(task.name)).exists()
    assert settle(SearchFolder(one, tmp_path))[0].state == "running", "it was interrupted, and can be resumed"


def test_optuna_sees_the_trials(tiny, tmp_path):
    one = search(tiny, trials=4)
    ask_all(one, tmp_path, [])
    folder = SearchFolder(one, tmp_path)
    study = folder.study(folder.trials)
    assert (study.best_value, study.best_trial.number) == (0.0, 0)
    assert [trial.params for trial in study.trials] == [trial.params for trial in folder.trials]
    assert json.loads((folder.path / "search.json").read_text()) == one.definition()


def test_trials_are_counted_and_their_runs_listed(tiny, tmp_path):
    assert trials_of(tmp_path, "prefix_ratio").described == ""
    one = search(tiny, trials=4)
    for _ in range(2):
        do(tmp_path, SearchFolder(one, tmp_path).ask(), content_loss=1.0)
    folder = SearchFolder(one, tmp_path)
    settle(folder)
    running, waiting = folder.ask(), folder.ask()
    with begin(tmp_path, running):
        found = trials_of(tmp_path, one.name)
        assert found.described == "2 finished, 2 running"
        assert [(cell.arm, cell.seed) for cell in found.cells] == [(ARM, 0), (ARM, 1), (ARM, 2)]
        assert found.cells[-1].name == running.name
        assert found.runs == {cell.name for cell in found.cells} | {waiting.name}
    with begin(tmp_path, waiting):
        assert len(trials_of(tmp_path, one.name).cells) == 4, "the trials are read again"


def test_the_runs_that_confirm_the_winner_are_listed(tiny, tmp_path):
    one = search(tiny, trials=2)
    for loss in (2.0, 1.0):
        do(tmp_path, SearchFolder(one, tmp_path).ask(), content_loss=loss)
    free = SearchTasks(SearchFolder(one, tmp_path), []).open_tasks().free
    assert [cell.arm for cell in trials_of(tmp_path, one.name).cells] == [ARM, ARM], "none has started"
    do(tmp_path, free[1], content_loss=1.0)
    cells = trials_of(tmp_path, one.name).cells
    assert [(cell.arm, cell.seed, cell.name) for cell in cells[2:]] == [(WINNER, 1, free[1].name)]


def test_failed_trials_are_counted_and_one_that_ended_without_an_end_is_one_sentence(tiny, tmp_path):
    folder = SearchFolder(search(tiny), tmp_path)
    for state in ("failed", "pruned"):
        end_trial(folder, state)
    found = trials_of(tmp_path, "a_search")
    assert (found.described, found.num_failed) == ("1 pruned, 1 failed", 1)
    end_trial(folder, "running")
    assert "/0002-end.json has a trial that is running; restore the file, or move" in refusal(
        trials_of, tmp_path, "a_search"
    )


def test_displays_load_no_optuna():
    code = "import sys, aimv2.sweeps.search.trials; sys.exit('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


values = st.floats(allow_nan=False)
trials = st.builds(
    Trial,
    number=st.just(0),
    run=st.from_regex(RUN_NAME, fullmatch=True),
    params=st.dictionaries(st.text(), values | st.text()),
    after=st.integers(0),
    attributes=st.dictionaries(st.text(), values | st.text()),
    values=st.lists(values).map(tuple),
    note=st.text(),
)


@pytest.mark.exhaustive
@given(drawn=trials, ended=st.none() | trials, state=st.sampled_from(get_args(State)))
def test_the_last_file_of_a_trial_is_the_trial(tmp_path_factory, drawn, ended, state):
    folder = tmp_path_factory.mktemp("search")
    ended = None if ended is None or state == "running" else replace(ended, state=state)
    for kind, trial in ((DRAWN, drawn), (ENDED, ended)):
        if trial is not None:
            write_json(file_of(folder, 0, kind), asdict(trial))
    assert read_trials(folder) == [ended or drawn]
