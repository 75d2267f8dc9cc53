import pytest

from aimv2.analysis.inference.looks import Look, look, looks_path, num_looks
from aimv2.base.errors import UsageError


@pytest.fixture
def path(tmp_path):
    return looks_path(tmp_path, "a_study")


def runs(num_seeds, version="v2", arms=("one", "other")):
    return [f"{version}-{arm}-{seed}" for arm in arms for seed in range(num_seeds)]


def test_more_seeds_are_another_look_at_a_higher_level(path):
    first = look(path, range(4), runs(4))
    second = look(path, range(8), runs(8))
    assert (first.number, first.level) == (1, 0.975)
    assert (second.number, second.level) == (2, 0.9875)
    assert second.earlier == ((0, 1, 2, 3),)
    assert sum(1 - Look(number).level for number in range(1, 60)) == pytest.approx(0.05), "errors of all looks"


def test_same_seeds_again_are_no_new_look(path):
    assert num_looks(path) == 0
    looks = [look(path, range(n), runs(n)) for n in (4, 8, 8, 4)]
    assert [one.number for one in looks] == [1, 2, 2, 1]
    assert looks[3].earlier == ()
    assert num_looks(path) == 2


def test_more_runs_with_the_same_seeds_are_another_look(path):
    first = look(path, range(4), runs(4, arms=["one"]))
    second = look(path, range(4), runs(4)[:-1])
    third = look(path, range(4), runs(4))
    assert [one.number for one in (first, second, third)] == [1, 2, 3]
    assert third.earlier == ((0, 1, 2, 3), (0, 1, 2, 3))


def test_looks_at_other_runs_and_without_intervals_do_not_count(path):
    assert look(path, [], []).number == look(path, [0], runs(1)).number == 1
    assert not path.exists()
    look(path, range(4), runs(4))
    assert look(path, range(8), runs(8, "other")).number == 1
    assert look(path, range(8), runs(8)).number == 2


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '[{"seeds": 4, "runs": []}]'])
def test_unreadable_record_is_refused(path, text):
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UsageError, match="is not a record of looks"):
        look(path, range(4), runs(4))


def test_record_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "studies").write_text("")
    with pytest.raises(UsageError, match=r"the record of looks .* cannot be written"):
        look(looks_path(tmp_path, "a_study"), range(4), runs(4))
