import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.base import address
from aimv2.base.errors import BadSampleError, UsageError
from aimv2.datasets import selection
from aimv2.datasets.description import Filter, Location, SourceDescription
from aimv2.datasets.records import DataPart
from aimv2.datasets.selection import meets
from tests.helpers.memory_records import MemoryRecords
from tests.helpers.own_data import source


class Rows(MemoryRecords):
    """Records of dictionaries; a field whose value is "broken" cannot be read."""

    def __init__(self, rows, name="rows"):
        super().__init__([b""] * len(rows), rows)
        self.name = name

    def image(self, row):
        raise AssertionError("a selection reads no image")

    def field(self, row, name):
        if (value := super().field(row, name)) == "broken":
            raise BadSampleError("broken json")
        return value

    def parts(self):
        return [DataPart(self.name, len(self), 0, "x")]

    def __reduce__(self):
        return type(self), (self._fields, self.name)


def described(folder, **values) -> SourceDescription:
    (folder / "source.index").mkdir(exist_ok=True)
    return source(folder, folder="pictures", **values)


def select(records, description, workers=1):
    return selection.write_selection(records, description, workers, lambda done, total: None)


TEXTS = st.sampled_from(["1", "0.5", "cat", "broken", "nan"])
VALUES = st.one_of(st.none(), st.integers(-3, 3), st.floats(-3, 3), st.booleans(), TEXTS)
LIMITS = {"min": st.integers(-3, 1), "max": st.integers(1, 3)}
CONDITIONS = LIMITS | {"any_of": st.lists(st.sampled_from([1, 2, "cat"]), min_size=1)}
FILTERS = st.dictionaries(st.sampled_from("ab"), st.fixed_dictionaries({}, optional=CONDITIONS).filter(bool))
HELD_OUT = st.one_of(
    st.none(),
    st.floats(0.05, 0.95).map(lambda fraction: {"fraction": fraction}),
    st.lists(st.sampled_from([0, 1, "cat"]), min_size=1).map(lambda values: {"field": "a", "values": values}),
)


def is_number(value):
    try:
        return not isinstance(value, bool) and math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def obviously_allowed(value, allowed):
    return any(
        (type(value) is not bool and value == option) or (type(value) is str and value == str(option))
        for option in allowed
    )


def obvious_selection(rows, filters, held_out):
    """Return kept rows and indices of held-out ones by one loop over Python values."""
    kept = []
    for number, row in enumerate(rows):
        for name, condition in filters.items():
            value = None if row.get(name) == "broken" else row.get(name)
            if value is None:
                break
            if "any_of" in condition and not obviously_allowed(value, condition["any_of"]):
                break
            if ("min" in condition or "max" in condition) and not is_number(value):
                break
            if "min" in condition and float(value) < condition["min"]:
                break
            if "max" in condition and float(value) > condition["max"]:
                break
        else:
            kept.append(number)
    if held_out is None and kept:
        held_out = {"fraction": min(0.2, 20_000 / len(kept))}
    chosen = []
    for place, number in enumerate(kept):
        if "fraction" in held_out:
            if address.hash64(f"key-{number}") / 2**64 < held_out["fraction"]:
                chosen.append(place)
        elif rows[number].get("a") not in (None, "broken") and obviously_allowed(rows[number]["a"], held_out["values"]):
            chosen.append(place)
    return kept, chosen


@given(
    rows=st.lists(st.fixed_dictionaries({}, optional={"a": VALUES, "b": VALUES}), min_size=1, max_size=30),
    filters=FILTERS,
    held_out=HELD_OUT,
)
def test_selection_matches_the_obvious_loop(tmp_path_factory, rows, filters, held_out):
    description = described(tmp_path_factory.mktemp("source"), filters=filters, held_out=held_out)
    kept, chosen = obvious_selection(rows, filters, held_out)
    records = Rows(rows)
    fields = {name for row in rows for name in row}
    if not kept:
        sentence = rf"none of {len(rows)} samples meets the filters"
        if fields and not fields >= filters.keys():
            sentence = r"^filters: no sample has the field '\w'; there are \w$"
        with pytest.raises(UsageError, match=sentence):
            select(records, description)
    elif not 0 < len(chosen) < len(kept):
        sentence = rf"^held_out: .* {len(kept)} samples"
        if fields == {"b"} and "field" in (held_out or {}):
            sentence = r"^held_out: no sample has the field 'a'; there are b$"
        with pytest.raises(UsageError, match=sentence):
            select(records, description)
    else:
        select(records, description)
        found = selection.read_selection(records, description)
        assert found.held_out_M.tolist() == chosen
        assert found.held_out_M.dtype == np.int64
        assert isinstance(found.held_out_M, np.memmap)
        if filters:
            assert found.kept_N.tolist() == kept
            assert (found.kept_N.dtype, isinstance(found.kept_N, np.memmap)) == (np.int64, True)
        else:
            assert found.kept_N is None


@pytest.mark.exhaustive
def test_several_processes_and_chunks_select_the_same(tmp_path):
    num = selection.CHUNK + 1000
    rows = [{"a": number % 7, "b": str(number % 5)} for number in range(num)]
    description = described(tmp_path, filters={"a": {"min": 2}}, held_out={"field": "b", "values": [3]})
    seen = []
    found = selection.write_selection(Rows(rows), description, 2, lambda done, total: seen.append((done, total)))
    kept = [number for number in range(num) if number % 7 >= 2]
    assert found.kept_N.tolist() == kept
    assert found.held_out_M.tolist() == [place for place, number in enumerate(kept) if number % 5 == 3]
    assert seen == [(selection.CHUNK, num), (num, num)]


def test_the_default_holds_out_a_fifth_and_at_most_twenty_thousand(tmp_path):
    description = described(tmp_path)
    small = select(Rows([{}] * 1000), description).held_out_M
    assert 150 < len(small) < 250
    large = select(Rows([{}] * 200_000), description).held_out_M
    assert 19_400 < len(large) < 20_600


def test_a_sample_stays_held_out_when_others_are_added(tmp_path):
    description = described(tmp_path, held_out={"fraction": 0.1})
    few, many = (select(Rows([{}] * num), description).held_out_M for num in (500, 1000))
    assert many[many < 500].tolist() == few.tolist()


@pytest.mark.parametrize("fraction", [1e-9, 0.1, 1 / 3, 1 - 2**-53])
def test_the_hash_decides_exactly(fraction):
    limit = int(fraction * 2**64)  # a double times a power of two is exact
    hashes = [0, limit - 1, limit, limit + 1, 2**64 - 1]
    found = selection.held_out_by_hash(np.array(hashes, np.uint64), fraction)
    assert found.tolist() == [value < fraction * 2**64 for value in hashes]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"filters": {"a": {"min": 0}}}, "filters changed since"),
        ({"held_out": {"fraction": 0.3}}, "held_out changed since"),
        ({"filters": {"a": {"min": 0}}, "held_out": None}, "filters and held_out changed since"),
    ],
)
def test_changed_rules_need_the_index_to_be_written_again(tmp_path, change, sentence):
    records = Rows([{"a": 1}] * 100)
    values = {"held_out": {"fraction": 0.5}, "filters": {"a": {"min": 1}}}
    before = described(tmp_path, **values)
    select(records, before)
    after = described(tmp_path, **(values | change))
    with pytest.raises(UsageError, match=f"^{sentence} .*; write it again with python -m aimv2 data index .*source."):
        selection.read_selection(records, after)
    assert selection.read_selection(records, dataclasses.replace(before, licence="another")).kept_N is not None
    with pytest.raises(UsageError, match=r"^the samples changed since"):
        selection.read_selection(Rows([{"a": 1}] * 100, "other"), before)


@pytest.mark.parametrize("content", [None, "{"])
def test_a_missing_or_broken_selection_is_one_sentence(tmp_path, content):
    description = described(tmp_path)
    if content:
        (tmp_path / "source.index/selection.json").write_text(content)
    with pytest.raises(UsageError, match="write it with python -m aimv2 data index"):
        selection.read_selection(Rows([{}] * 100), description)


def test_a_location_without_held_out_samples_has_its_filters_only(tmp_path):
    description = described(tmp_path, filters={"a": {"any_of": [1]}})
    values = {field.name: getattr(description, field.name) for field in dataclasses.fields(Location)}
    location = Location(**values)
    found = select(Rows([{"a": number % 2} for number in range(10)]), location)
    assert (found.kept_N.tolist(), found.held_out_M.tolist()) == ([1, 3, 5, 7, 9], [])
    recorded = json.loads((tmp_path / "source.index/selection.json").read_text())
    assert recorded.keys() == {"filters", "exclude", "the samples"}


def test_excluded_samples_are_on_no_side_and_the_others_stay_where_they_were(tmp_path):
    rows = Rows([{"a": number % 3} for number in range(50)])
    filters = {"a": {"min": 1}}
    before = select(rows, described(tmp_path, filters=filters, held_out={"fraction": 0.4}))
    kept = before.kept_N.tolist()
    held_out = {kept[number] for number in before.held_out_M}
    keys = [rows.key(row) for row in (kept[0], kept[5], 0, 49)]
    (tmp_path / "leaks.txt").write_text("\n".join([*keys, "", "of no sample"]))
    values = {"filters": filters, "held_out": {"fraction": 0.4}, "exclude": "leaks.txt"}
    found = select(rows, described(tmp_path, **values))
    assert found.kept_N.tolist() == [row for row in kept if rows.key(row) not in keys]
    assert {int(found.kept_N[number]) for number in found.held_out_M} == held_out - {kept[0], kept[5], 49}
    assert found.num_excluded == len(kept) - len(found.kept_N)
    (tmp_path / "leaks.txt").write_text("another key")
    with pytest.raises(UsageError, match=r"exclude changed since .*; write it again with"):
        selection.read_selection(rows, described(tmp_path, **values))
    (tmp_path / "leaks.txt").write_text("\n".join(rows.key(row) for row in range(50)))
    with pytest.raises(UsageError, match=r"exclude: .*leaks\.txt has the keys of all samples"):
        select(rows, described(tmp_path, exclude="leaks.txt"))
    (tmp_path / "leaks.txt").unlink()
    with pytest.raises(UsageError, match=r"exclude: .*leaks\.txt cannot be read"):
        selection.read_selection(rows, described(tmp_path, **values))


def test_broken_members_are_counted(tmp_path):
    rows = [{"a": 1}, {"a": "broken"}, {"b": 2}, {"a": 1, "b": "broken"}, {"a": 1, "b": 2}]
    found = select(Rows(rows), described(tmp_path, filters={"a": {"min": 0}}, held_out={"field": "b", "values": [2]}))
    assert found.kept_N.tolist() == [0, 3, 4]
    assert found.held_out_M.tolist() == [2]
    assert found.num_broken == 2


@pytest.mark.parametrize(
    ("value", "condition", "met"),
    [
        (True, {"any_of": [True]}, True),
        (1, {"any_of": [True]}, False),
        (True, {"any_of": [1]}, False),
        ("true", {"any_of": [True]}, True),
        ("7", {"any_of": [7]}, True),
        (7, {"any_of": ["7"]}, False),
        ("007", {"any_of": [7]}, False),
        ("1e3", {"min": 1000}, True),
        (True, {"min": 0}, False),
        (float("nan"), {"min": 0}, False),
        ([3], {"min": 0}, False),
        (None, {"any_of": [1]}, False),
        (10**400, {"min": 0}, False),  # too large for a float
    ],
)
def test_text_meets_conditions_as_its_number_and_truth_is_no_number(value, condition, met):
    assert meets(value, Filter(**condition)) is met
