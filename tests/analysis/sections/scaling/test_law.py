from dataclasses import replace

import pytest

from aimv2.analysis.document.model import Document, Section
from aimv2.analysis.document.pages import to_markdown
from aimv2.analysis.document.style import style
from aimv2.analysis.inference.scaling.assess import assess
from aimv2.analysis.inference.scaling.frontier import SIX_N_D, frontier
from aimv2.analysis.sections.scaling.law import Fitted, conclusion, law_blocks, law_numbers
from aimv2.base.markdown import escape
from tests.helpers.documents import by_row, tables, text_of
from tests.helpers.scaling import HOFFMANN, ladder_runs

LABELS = {"n": "parameters", "d": "tokens", "loss": "loss"}
MEANINGS = {"n": 'column "parameters"', "d": 'column "tokens"', "L": 'column "loss"'}
HOSTILE = "![x](/etc/hostname) a|b*<script>$x$_`c`"  # a header that must stay text


@pytest.fixture(scope="module")
def fitted():
    law = assess(ladder_runs(HOFFMANN, noise=0.01), ["n", "d"], "additive", num_draws=30)
    return Fitted(law, LABELS, MEANINGS, SIX_N_D, frontier(law.bootstrap, SIX_N_D))


def section_of(fitted):
    with style():
        return Section("", law_blocks(fitted))


@pytest.mark.exhaustive
def test_tables_have_the_numbers_of_the_law(fitted):
    found = tables(section_of(fitted))
    parameters = by_row(found["scaling_parameters"])
    for name, value in fitted.law.law.parameters.items():
        assert parameters[name]["estimate"] == (f"{value:.4g}",)
        assert parameters[name]["identified"] == ("yes" if fitted.law.bootstrap.identified[name] else "no",)
    forms = by_row(found["scaling_forms"])
    assert len(forms) == len(fitted.law.trials)
    assert "**`E + A n^-a + B d^-b`**" in forms
    assert "Held out: runs with n = 1.6e+10 or d = 5e+11; the forms are fitted to the 27 others." in (
        found["scaling_forms"].caption
    )
    optima = [row[0] for row in found["scaling_frontier"].rows]
    budgets = fitted.frontier.table["flops"]
    assert (optima[0], optima[-1], len(optima)) == (f"{budgets.min():.2e}", f"{budgets.max():.2e}", 5)
    assert "FLOPs = 6 n d" in found["scaling_frontier"].caption
    assert 'L is column "loss"; n is column "parameters"; d is column "tokens".' in found["scaling_parameters"].caption
    assert "its interval is that of the jackknife over seeds." in found["scaling_forms"].caption
    assert "resampled noise of seeds and runs." in found["scaling_parameters"].caption


@pytest.mark.exhaustive
def test_what_is_not_identified_is_in_the_conclusion_and_the_warnings():
    law = assess(ladder_runs({**HOFFMANN, "A": 0.0}, noise=0.005), ["n", "d"], "additive", num_draws=20)
    fitted = Fitted(law, LABELS, MEANINGS, SIX_N_D, frontier(law.bootstrap, SIX_N_D))
    doubtful = conclusion(fitted).partition("Not identified: ")[2].partition(".")[0].split(", ")
    assert {"A", "a"} <= set(doubtful)
    assert fitted.frontier is None
    assert "A is not identified" in text_of(section_of(fitted))
    assert not law_numbers(fitted)["parameters"]["A"]["is_identified"]


def test_one_variable_has_no_frontier():
    runs = ladder_runs(HOFFMANN, noise=0.01, num_seeds=1, sizes=1, samples=6)[["d", "loss"]]
    found = tables(section_of(Fitted(assess(runs, ["d"], "d_no_offset", num_draws=20), LABELS, MEANINGS)))
    assert set(found) == {"scaling_forms", "scaling_parameters"}


def test_a_form_may_be_untested():
    runs = ladder_runs(HOFFMANN, noise=0.01, num_seeds=1, sizes=3, samples=3)
    fitted = Fitted(assess(runs, ["n", "d"], "additive_no_offset", num_draws=20), LABELS, MEANINGS)
    found = tables(section_of(fitted))
    assert "No run is held out: too few levels would remain." in found["scaling_forms"].caption
    assert "The error is" not in found["scaling_forms"].caption
    assert "Its form is not tested." in conclusion(fitted)


@pytest.mark.exhaustive
def test_errors_without_interval_say_why():
    runs = ladder_runs(HOFFMANN, noise=0.01, sizes=2, samples=7)[["d", "seed", "loss"]]
    for data, reason in (
        (runs, "a setting has several runs of one seed"),
        (runs.drop(columns="seed"), "the seeds of the runs are not known"),
    ):
        found = tables(section_of(Fitted(assess(data, ["d"], "d", num_draws=10), LABELS, MEANINGS)))
        assert f"It has no interval, because {reason}." in found["scaling_forms"].caption
        assert "jackknife" not in found["scaling_forms"].caption
        assert f"noise of runs, and none of seeds, because {reason}." in found["scaling_parameters"].caption


def test_settings_that_were_drawn_are_told(fitted):
    runs = ladder_runs(HOFFMANN, noise=0.01, num_seeds=1, sizes=1, samples=20)[["d", "loss"]]
    found = tables(section_of(Fitted(assess(runs, ["d"], "d_no_offset", num_draws=10), LABELS, MEANINGS)))
    assert "percentiles of 10 refits to settings drawn with replacement." in found["scaling_parameters"].caption


def test_labels_are_text_and_no_markup(fitted):
    labels, meanings = dict.fromkeys(LABELS, HOSTILE), dict.fromkeys(MEANINGS, HOSTILE)
    found = section_of(replace(fitted, labels=labels, meanings=meanings))
    markdown = to_markdown(Document("a", "b", "c", [found]))
    assert markdown.count(escape(HOSTILE)) == 5  # two headings and three meanings
    assert HOSTILE not in markdown


def test_optima_beyond_the_search_are_told(fitted):
    frontier = fitted.frontier
    table = frontier.table.assign(n=frontier.table["n"].where(frontier.table.index > 0))
    changed = replace(frontier, table=table, num_outside=2, num_without=1, num_draws=30)
    shown = tables(section_of(replace(fitted, frontier=changed)))["scaling_frontier"]
    assert shown.rows[0][1] == "beyond the search"
    assert "1 of 30 refits have no optimum and are left out." in shown.caption
    assert "2 of 30 refits have an optimum more than 1000 times beyond the sizes of the runs." in shown.caption
    assert law_numbers(replace(fitted, frontier=changed))["frontier_refits"] == {
        "drawn": 30, "without_optimum": 1, "outside_search": 2,
    }  # fmt: skip


def test_numbers_have_every_estimate_with_its_interval(fitted):
    numbers = law_numbers(fitted)
    low, high = fitted.law.bootstrap.interval("a")
    assert numbers["parameters"]["a"] == {
        "mean": fitted.law.law.parameters["a"], "low": low, "high": high, "level": 0.95, "n": 48, "unit": "",
        "is_identified": fitted.law.bootstrap.identified["a"],
    }  # fmt: skip
    assert numbers["refits"] == {"converged": 30, "failed": 0}
    assert len(numbers["frontier"]) == len(fitted.frontier.table)
    assert numbers["held_out"] == {"runs": "n = 1.6e+10 or d = 5e+11", "num_runs": 21}
