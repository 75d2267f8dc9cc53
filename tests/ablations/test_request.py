import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.design import setting
from aimv2.ablations.expand import expand
from aimv2.ablations.request import (
    Request,
    read_request,
    read_requests,
    request_from_json,
    request_to_json,
    requested_names,
    requested_runs,
    write_request,
)
from aimv2.ablations.study import WINNER, confirmation, study_overrides
from aimv2.base.errors import UsageError
from aimv2.config.program import replaced


@pytest.fixture
def launched(study, tiny, tmp_path, monkeypatch):
    """A function that records a launch of the small study by a user, with changed values, and returns its request."""

    def launch(owner, *, arms=("uniform", "causal"), seeds=(0, 1), run=None, **values):
        monkeypatch.setenv("LOGNAME", owner)
        changed = replace(study_overrides(study), **values).apply(study)
        cells = expand(changed, replaced(tiny, run or {}), arms=arms, seeds=seeds)
        words = (owner, *map(str, seeds), *(f"sweep.{key}={value}" for key, value in values.items()))
        request = Request(study=changed, cells=cells, arguments=words)
        write_request(tmp_path, request)
        return request

    return launch


def union_in(tmp_path, **more):
    (name,) = requested_names(tmp_path)
    return read_request(tmp_path, name, STUDIES, **more)


def names(cells):
    return {cell.name for cell in cells}


def test_launches_of_two_users_are_one_study_and_neither_is_lost(launched, tmp_path):
    first = launched("ada", seeds=[0, 1, 2], primary_metric="content_loss")
    second = launched("ben", seeds=[2, 3], arms=["uniform", "fixed_50"], question="Does half do?")
    found = union_in(tmp_path)
    assert names(found.cells) == names(first.cells) | names(second.cells)
    assert len(names(found.cells)) == len(found.cells)
    assert (found.study.question, found.study.primary_metric) == ("Does half do?", second.study.primary_metric)
    assert (found.arguments, found.owner) == (second.arguments, "ben")
    assert [one.owner for one in read_requests(tmp_path, first.folder, STUDIES)] == ["ben", "ada"]


def test_requested_runs_are_those_of_all_requests(launched, tmp_path):
    every = [launched("ada", seeds=[0]), launched("ben", run={"budget.samples": 24})]  # of two baseline runs
    (tmp_path / "studies" / every[0].folder / "broken.json").write_text("{")
    assert requested_runs(tmp_path) == names(every[0].cells) | names(every[1].cells)


def test_launches_of_two_users_at_the_same_time_are_both_recorded(study, tiny, tmp_path):
    requests = [
        Request(study=study, cells=expand(study, tiny, seeds=[seed]), arguments=(str(seed),)) for seed in range(20)
    ]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda request: write_request(tmp_path, request), requests))
    assert names(union_in(tmp_path).cells) == names(cell for request in requests for cell in request.cells)


def test_a_record_that_cannot_be_read_or_has_an_unknown_metric_hides_no_other(launched, tmp_path, capsys):
    """That of another version or user would block a study for everybody, and a newest one decide its metric."""
    request = launched("ada")
    write_request(tmp_path, replace(request, study=replace(request.study, primary_metric="of_newer_code")))
    broken = tmp_path / "studies" / request.folder / "0123456789ab.json"
    broken.write_text('{"arguments": []}')
    found = read_request(tmp_path, request.folder, STUDIES)
    assert (found.cells, found.study.primary_metric) == (request.cells, request.study.primary_metric)
    printed = capsys.readouterr().err
    assert "'of_newer_code'" in printed
    assert f"left out: {broken} is not the record of a launch" in printed
    launched("ben")


def test_a_user_sees_the_study_of_ones_own_baseline(launched, tmp_path):
    own = launched("ada")
    trial = launched("ben", run={"budget.samples": 32})
    assert names(union_in(tmp_path, owner="ada").cells) == names(own.cells)
    assert names(union_in(tmp_path).cells) == names(union_in(tmp_path, owner="cy").cells) == names(trial.cells)


def test_the_same_launch_is_recorded_once_and_becomes_the_newest(launched, tmp_path):
    first = launched("ada", seeds=[0])
    launched("ben", seeds=[1])
    launched("ada", seeds=[0])
    assert len(list(tmp_path.rglob("*.json"))) == 2
    assert union_in(tmp_path).arguments == first.arguments


def test_a_launch_is_newer_than_one_of_a_host_whose_clock_is_ahead(launched, tmp_path):
    launched("ada", seeds=[0])
    (path,) = tmp_path.rglob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"time": 1e12}))
    launched("ben", seeds=[1])
    assert union_in(tmp_path).owner == "ben"


def test_an_arm_whose_definition_changed_is_not_mixed(launched, tmp_path):
    older = launched("ada", seeds=[0, 1])
    edited = [
        replace(cell, config=replaced(cell.config, {"optimizer.peak_lr": 1e-5})) if cell.arm == "causal" else cell
        for cell in older.cells
        if cell.seed == 0
    ]
    write_request(tmp_path, replace(older, cells=edited))
    of_arms = {(cell.arm, cell.seed) for cell in union_in(tmp_path).cells if cell.arm in ("uniform", "causal")}
    assert of_arms == {("uniform", 0), ("uniform", 1), ("causal", 0)}


def test_controls_that_one_launch_left_out_stay_and_a_run_that_is_the_null_control_of_one_is_there_once(
    launched, tmp_path
):
    launched("ada", controls=("null_control",), seeds=[0, 1])  # whose seeds are 1000 and 1001
    launched("ben", controls=("null_control",), seeds=[1000])
    launched("cy", controls=(), seeds=[5])
    found = union_in(tmp_path)
    assert found.study.controls == ("null_control",)
    assert len(names(found.cells)) == len(found.cells)
    assert {cell.seed for cell in found.cells if cell.arm == "uniform"} == {0, 1, 5, 1000}


def test_request_is_read_back(study, tiny, tmp_path):
    changed = {"equal": "flops", "controls": ("null_control",), "equivalence_margin": 0.5}
    study = replace(study_overrides(study), **changed).apply(study)
    words = ("sweep=prefix_ratio", "sweep.seeds=2", "sweep.equivalence_margin=0.5")
    request = Request(study=study, cells=expand(study, tiny, seeds=(0, 1)), arguments=words)
    write_request(tmp_path, request)
    (tmp_path / "studies/prefix_ratio_equal_flops_test.looks.json").write_text("[]")  # no request
    assert requested_names(tmp_path) == ["prefix_ratio_equal_flops_test"]
    assert read_request(tmp_path, "prefix_ratio_equal_flops_test", STUDIES) == request


def test_confirmation_of_a_search_is_read_back_beside_its_study(study, tiny, tmp_path):
    """The catalogue does not have the winner; a factorial study has levels that it has not."""
    for own in (study, STUDIES["norm_ffn"]):
        winner = setting("trial 3: optimizer.peak_lr = 0.002", {"optimizer.peak_lr": 0.002})
        search = confirmation(own, {own.baseline: own.arms[own.baseline], WINNER: winner})
        request = Request(study=search, cells=expand(search, tiny, seeds=(7, 8)), arguments=("search=optuna",))
        write_request(tmp_path, request)
        write_request(tmp_path, Request(study=own, cells=expand(own, tiny, seeds=(0,)), arguments=()))
        assert request.folder == f"{own.slug}_search_test"
        found = read_request(tmp_path, request.folder, STUDIES)
        assert found.cells == request.cells
        labels = {own.baseline: own.label(own.baseline), WINNER: winner.label}
        assert {arm: found.study.label(arm) for arm in found.study.arms} == labels
        assert replace(found.study, design=search.design) == search
        assert found.study.design.levels == search.design.levels == {}
        assert not read_request(tmp_path, f"{own.slug}_test", STUDIES).study.is_search


def test_records_of_studies_have_no_word_of_searches(study, tiny):
    """Those from before there were searches have the same bytes when they are written again."""
    request = Request(study=study, cells=expand(study, tiny, seeds=(0,)), arguments=())
    assert not {"is_search", "suffix"} & request_to_json(request)["sweep"].keys()
    search = request_to_json(replace(request, study=replace(study, is_search=True, suffix="wide")))["sweep"]
    assert (search["is_search"], search["suffix"]) == (True, "wide")


@pytest.fixture
def recorded(request, study, tiny, tmp_path):
    """A request, of a baseline that a test may name, and the file that records it."""
    study = replace(study_overrides(study), baseline=getattr(request, "param", study.baseline)).apply(study)
    written = Request(study=study, cells=expand(study, tiny), arguments=())
    write_request(tmp_path, written)
    (path,) = tmp_path.rglob("*.json")
    return written, path


@pytest.mark.parametrize("recorded", ["uniform", "causal"], indirect=True)
def test_values_that_a_record_lacks_are_those_of_the_study(recorded, tmp_path):
    request, path = recorded
    record = json.loads(path.read_text())
    for key in ("question", "source", "claims"):
        del record["sweep"][key]
    record["sweep"]["pairing"] = "seed"
    path.write_text(json.dumps(record))
    assert union_in(tmp_path) == request


def test_runs_are_judged_as_the_study_is_today_unless_the_launch_chose_otherwise(recorded, tmp_path):
    request, path = recorded
    record = json.loads(path.read_text())
    record["sweep"] |= {"equivalence_margin": 0.1, "claims": {}}
    path.write_text(json.dumps(record))
    assert union_in(tmp_path) == request
    record["arguments"] = ["sweep.equivalence_margin=0.1", "sweep.claims.prefix-beats-causal=[]"]
    path.write_text(json.dumps(record))
    chosen = union_in(tmp_path).study
    assert (chosen.equivalence_margin, chosen.claims) == (0.1, {})


def test_words_are_todays_unless_the_launch_chose_them_or_the_study_fits_its_data(recorded, tmp_path):
    request, path = recorded
    record = json.loads(path.read_text())
    record["sweep"] |= {"question": "Of old?", "source": "an old source"}
    record["adapted"]["arms"]["causal"] = "an old label"
    path.write_text(json.dumps(record))
    assert union_in(tmp_path) == request
    fitted = {**STUDIES, "prefix_ratio": replace(STUDIES["prefix_ratio"], fit=lambda study, base: study)}
    old = request_from_json(record, fitted, path.name).study
    assert (old.source, old.label("causal")) == ("an old source", "an old label")
    record["arguments"] = ["sweep.source=an old source"]
    path.write_text(json.dumps(record))
    chosen = union_in(tmp_path).study
    assert (chosen.question, chosen.source) == (request.study.question, "an old source")


@pytest.mark.parametrize("broken", ["[]", '{"cells": []}', "{"])
def test_broken_record_is_named(recorded, tmp_path, broken):
    _, path = recorded
    path.write_text(broken)
    with pytest.raises(UsageError, match=rf"{path.name} (is not the record of a launch|cannot be read)"):
        read_request(tmp_path, path.parent.name, STUDIES)


def test_record_of_an_unknown_study_is_refused(recorded):
    with pytest.raises(UsageError, match="is not the record of a launch"):
        request_from_json(json.loads(recorded[1].read_text()), {}, "a record")


def test_an_untrained_encoder_has_one_name_whatever_the_arms_of_each_launch(tiny, tmp_path):
    study, base = STUDIES["scaling"], replaced(tiny, {"budget.samples": 64})
    baseline, half, whole = study.baseline, "size_200_samples_050", "size_200_samples_100"
    for arms, seeds in (((baseline, half, whole), [0, 1]), ((baseline, whole), [1, 2])):
        cells = expand(study, base, arms=arms, seeds=seeds)
        write_request(tmp_path, Request(study=study, cells=cells, arguments=()))
    found = union_in(tmp_path).cells
    own = [cell for cell in found if cell.arm.startswith("untrained_")]
    assert sorted((cell.arm, cell.seed) for cell in own) == [(f"untrained_{whole}", seed) for seed in (0, 1, 2)]
    assert len(names(found)) == len(found) == 6 * 3 + 2, "six conditions with three seeds, and one with two"
