import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.ablations.study import WINNER
from aimv2.analysis.document.pages import to_json, to_markdown
from aimv2.analysis.document.style import style
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.findings import judge
from aimv2.analysis.sections import search
from aimv2.analysis.sections.study import document
from aimv2.config.recipes.scales import demo
from tests.helpers.documents import by_row, tables, text_of
from tests.helpers.evidence import evidence_from, evidence_of, sensitive
from tests.helpers.searches import BUDGET, FLOPS, LOSS, parsed, request_of_search, search_of, trial, typical


def findings_of(values, *, effect=-0.2, has_winner=True):
    request = request_of_search(demo(), has_winner=has_winner, seeds=range(4))
    evidence = evidence_of(request.study, {WINNER: effect}, spread=0.005)
    return judge(request, evidence, Look(1, 16), sensitive("content_loss"), parsed(values))


def section_of(values, **more):
    with style():
        return search.section(findings_of(values, **more))


def test_a_study_without_a_search_has_no_section(findings):
    assert search.section(findings) is None
    assert search.numbers(findings) == {}


def test_importances_are_in_order_and_only_where_there_is_something_to_compare():
    table = tables(section_of(typical()))["search_importances"]
    assert [(row[0], row[1]) for row in table.rows] == [
        ("60 %", "objective.pixel\\_weight"),
        ("30 %", "optimizer.peak\\_lr"),
        ("10 %", "attention"),
    ]
    assert "could not be computed" in text_of(section_of(typical(importances={})))
    space = [{"name": "a", "low": 0.0, "high": 1.0, "log": False}]
    single = section_of(search_of([trial(0, params={"a": 0.5})], space=space, importances={"a": 1.0}))
    assert "search_importances" not in tables(single)


trials = st.lists(
    st.tuples(st.sampled_from(["finished", "pruned", "failed"]), st.integers(0, BUDGET), st.none() | st.integers(0, 9)),
    min_size=1,
    max_size=9,
)


@pytest.mark.exhaustive
@given(trials)
def test_cost_adds_up_and_pruning_saved_what_pruned_trials_did_not_train(rows):
    values = [
        trial(number, state, samples=samples, flops=float(samples), seconds=seconds)
        for number, (state, samples, seconds) in enumerate(rows)
    ]
    numbers = search.numbers(findings_of(search_of(values)))["search"]
    assert numbers["saved_samples"] == sum(BUDGET - samples for state, samples, _ in rows if state == "pruned")
    for state in ("finished", "pruned", "failed"):
        own = [(samples, seconds) for one, samples, seconds in rows if one == state]
        cost = numbers["cost"][state]
        assert cost["samples"] == cost["flops"] == sum(samples for samples, _ in own)
        expected = None if any(seconds is None for _, seconds in own) else sum(seconds for _, seconds in own)
        assert cost["seconds"] == expected


def test_table_of_costs_and_what_was_saved_in_words():
    values = [trial(0), trial(1, "pruned", share=0.25), trial(2, "failed", share=0.5, seconds=None)]
    section = section_of(search_of(values))
    rows = by_row(tables(section)["search_cost"])
    assert rows["finished"]["samples"] == ("4,096",)
    assert rows["pruned"]["hours"] == (f"{1024 / 100 / 3600:.3f}",)
    assert rows["failed"]["hours"] == rows["all"]["hours"] == ("not measured",)
    assert rows["all"]["samples"] == ("7,168",)
    text = text_of(section)
    assert "Pruned trials trained on 1,024 of 4,096 samples. Pruning saved 3,072 samples, 38 % of those" in text
    assert "Pruning saved" not in text_of(section_of(search_of([trial(0)])))


def test_all_trials_are_listed_with_their_runs_and_no_note_becomes_markup():
    values = typical()
    rows = by_row(tables(section_of(values))["search_trials"])
    assert len(rows) == 24
    assert rows["9"]["run"] == ("`v2-000000000009`",)
    assert rows["9"]["note"] == ("text\\_loss is nan at step 7 \\| \\<script\\>",)
    assert rows[str(values["winner"])]["state"] == ("finished, winner",)
    pruned = next(one for one in values["trials"] if one["state"] == "pruned")
    shown = rows[str(pruned["number"])]
    assert shown["content\\_loss \\[nats/token\\]"] == ("",)
    assert shown["attention"][0] in ("prefix attention", "causal attention")


@pytest.mark.parametrize(
    "values",
    [
        search_of([]),
        search_of([trial(0, "failed", params={}, run="")]),
        search_of([trial(0, "pruned", curve=[[256, 4.0]], share=0.1)]),
        search_of([trial(0, "running"), trial(1, budget=0, samples=0)]),
        search_of([trial(0, values=[3.0, 1.0, 2.0])], metrics=(LOSS, FLOPS, LOSS | {"name": "caption_loss"})),
    ],
)
def test_report_of_a_search_of_few_trials_is_written_in_every_form(values):
    request = request_of_search(demo(), has_winner=False)
    report = document(judge(request, evidence_from([], []), Look(1, 16), {}, parsed(values)), {})
    assert report.lead is None
    assert "## Search" in to_markdown(report)
    assert "search" in json.loads(to_json(report))["numbers"]
