import json

import pytest

from aimv2.ablations.searches import path_of, read_search, search_from_json, search_to_json
from aimv2.base.errors import UsageError
from tests.helpers.searches import FLOPS, LOSS, parsed, search_of, trial, typical


def test_search_is_read_from_its_file(tmp_path):
    path = path_of(tmp_path, "loss_weight_search")
    assert path == tmp_path / "searches/loss_weight_search.json"
    path.parent.mkdir()
    path.write_text(json.dumps(typical()))
    found = read_search(path)
    assert (found.sampler, found.pruner, len(found.trials)) == ("tpe", "asha", 24)
    first_pruned, *_ = found.in_state("pruned")
    assert (bool(first_pruned.curve), first_pruned.value) == (True, None)
    assert found.winning.value == min(one.value for one in found.finished)
    with pytest.raises(UsageError, match=r"other\.json cannot be read"):
        read_search(path_of(tmp_path, "other"))


@pytest.mark.parametrize("metrics", [(LOSS,), (LOSS, FLOPS)])
def test_search_comes_back_as_the_same_json(metrics):
    values = typical(metrics=metrics)
    written = json.loads(json.dumps(search_to_json(parsed(values))))
    assert written == values
    assert parsed(written) == parsed(values)


def with_first(**changed):
    return {"trials": [trial(0) | changed]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "x is a search of version 2, and this code reads version 1"),
        ({"version": None}, "x is not the record of a search: version"),
        ({"metrics": []}, "x is not the record of a search: metrics: "),
        ({"metrics": [LOSS | {"direction": "down"}]}, "metrics.0.direction: Input should be 'minimize' or 'maximize'"),
        (with_first(state="lost"), "trials.0.state"),
        (with_first(values=None), "trial 0 is finished and lacks the value of a metric or a dimension"),
        (with_first(values=[1.0, 2.0]), "trial 0 is finished and lacks the value of a metric or a dimension"),
        (with_first(values=[float("nan")]), "trials.0.values.0: Input should be a finite number"),
        (with_first(params={}), "trial 0 is finished and lacks the value of a metric or a dimension"),
        (with_first(params={"a": 1}), "'a' is not in the space"),
        (with_first(run="../x"), "trials.0.run: "),
        (with_first(samples=-1), "trials.0.samples: "),
        ({"front": [5]}, "a trial of the front is not a finished trial"),
        ({"front": []}, "the winner 0 is not on the front"),
        ({"importances": {"a": 1.0}}, "'a' is not in the space"),
        ({"importances": {"attention": -1.0}}, "importances.attention: "),
        ({"more": 1}, "unknown key 'more'"),
    ],
)
def test_broken_searches_are_refused_in_one_sentence(change, message):
    values = search_of([trial(0)]) | change
    with pytest.raises(UsageError) as refused:
        search_from_json(values, "x")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [None, [], "x", 3, {}])
def test_other_json_is_refused(content):
    with pytest.raises(UsageError, match="x is not the record of a search"):
        search_from_json(content, "x")
