from dataclasses import replace

from aimv2.analysis.document.model import Table
from aimv2.analysis.sections.words import in_seeds, seeds_per_arm, seen, with_limits


def test_what_runs_recorded_is_named_once_and_is_no_markup(evidence):
    runs = evidence.runs.iloc[:4].assign(hardware=["a_b", "![x](/etc/hostname)", "a_b", ""], pairs=1000)
    recorded = replace(evidence, runs=runs)
    assert seen(recorded, "hardware") == r"a\_b, !\[x\](/etc/hostname), not recorded"
    assert seen(recorded, "pairs") == "1,000"
    assert seen(recorded, "colour") == "not recorded"
    assert seen(replace(evidence, runs=runs.iloc[:0]), "hardware") == "not recorded"


def test_seeds_are_counted_by_arm(evidence):
    runs = evidence.runs
    assert seeds_per_arm(evidence) == (4, 4)
    assert seeds_per_arm(replace(evidence, runs=runs[(runs["arm"] != "causal") | (runs["seed"] < 2)])) == (2, 4)
    assert seeds_per_arm(replace(evidence, runs=runs[runs["seed"] == 3])) == (1, 1)
    assert seeds_per_arm(replace(evidence, runs=runs.iloc[:0])) == (0, 0)
    assert [in_seeds(*one) for one in ((1, 1), (4, 4), (1, 4))] == ["1 seed", "4 seeds", "1 to 4 seeds"]


def test_limits_are_a_column_only_if_something_is_limited():
    table = Table(["arm"], [["one"], ["other"]], name="some")
    assert with_limits(table, [(), ()]) is table
    limited = with_limits(table, [("a_b", "c"), ()])
    assert limited == Table(["arm", "limits"], [["one", "a\\_b; c"], ["other", ""]], name="some")
    assert table.columns == ["arm"], "the table itself stays as it is"
