import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.analysis.inference.looks import Look, look, looks_path, next_look
from aimv2.base.errors import UsageError


@pytest.fixture
def path(tmp_path):
    return looks_path(tmp_path, "a_study")


def runs(num_seeds, version="v2", arms=("one", "other")):
    return [f"{version}-{arm}-{seed}" for arm in arms for seed in range(num_seeds)]


def test_planned_looks_have_the_shares_that_earlier_ones_left(path):
    looks = [look(path, range(n), runs(n)) for n in (4, 8, 16, 32)]
    assert [1 - one.level for one in looks] == pytest.approx([0.005, 0.0075, 0.0125, 0.0125])
    assert [one.number for one in looks] == [1, 2, 3, 4]
    assert looks[1].earlier == ((0, 1, 2, 3),)
    assert [1 - Look(1, n).level for n in (4, 8, 16, 32, 99)] == pytest.approx([0.005, 0.0125, 0.025, 0.0375, 0.0375])


@given(st.lists(st.integers(2, 99), min_size=1, max_size=30))
def test_errors_of_any_looks_add_up_to_at_most_five_percent(counts):
    looks = [Look(number + 1, n, tuple((0,) * n for n in counts[:number])) for number, n in enumerate(counts)]
    assert 0 < 1 - min(one.level for one in looks) <= sum(1 - one.level for one in looks) <= 0.05
    assert looks[0].then(16) == Look(2, 16, (tuple(range(counts[0])),))


def test_same_seeds_again_are_no_new_look(path):
    assert next_look(path, 4) == Look(1, 4)
    looks = [look(path, range(n), runs(n)) for n in (4, 8, 8, 4)]
    assert [one.number for one in looks] == [1, 2, 2, 1]
    assert looks[3].earlier == ()
    assert next_look(path, 16) == Look(3, 16, ((0, 1, 2, 3), tuple(range(8))))


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
