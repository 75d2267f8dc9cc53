"""The claims and tables of the paper."""

from itertools import groupby
from typing import get_args

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.claims import CLAIMS, FILE, Kind, paper_tables
from aimv2.ablations.studies.sensitivity import RUNGS
from aimv2.base.files import read_yaml

WHOLE = [claim for claim in CLAIMS.values() if not claim.part_of]


def test_the_file_has_the_papers_claims_and_parts_of_them():
    assert len(WHOLE) == 51
    assert {claim.part_of for claim in CLAIMS.values()} == {"", "prefix-beats-causal"}
    entries = [entry for group in read_yaml(FILE).values() for entry in group]
    assert [entry["id"] for entry in entries] == list(CLAIMS), "ids are unique"
    sources = [source for source, _ in groupby(claim.source for claim in CLAIMS.values())]
    assert len(sources) == len(set(sources)), "a list by source has each heading once"
    assert [claim.id for claim in CLAIMS.values() if "The same" in claim.statement] == [], "statements stand alone"


def test_claims_and_studies_agree_on_what_is_judged_where():
    stated = {(claim.id, slug) for claim in CLAIMS.values() for slug in claim.studies}
    assert len(dict(stated)) == len(stated), "one study decides a claim"
    assert stated == {(name, slug) for slug, study in STUDIES.items() for name in study.claims}
    assert (
        {slug for claim in CLAIMS.values() for slug in claim.measured_by}
        == {"scaling", "caption_order"}
        <= set(STUDIES)
    )


def test_published_numbers_compare_two_conditions_or_more():
    assert all(len(values) > 1 for claim in CLAIMS.values() for values in claim.published.values())
    measured = [claim for claim in CLAIMS.values() if claim.evidence == "asserted"]
    assert all(not claim.published or claim.id == "data-mix" for claim in measured), "nothing was measured"


def test_a_claim_is_judged_by_studies_of_its_kinds_or_says_why_not():
    for claim in CLAIMS.values():
        assert sum(map(bool, (claim.studies, claim.not_testable, claim.no_study))) == 1, claim.id
        assert bool(claim.kinds) == bool(claim.studies), claim.id
        assert not (claim.measured_by and claim.studies), f"{claim.id}: measured_by is of claims without a verdict"
        assert claim.part_of in ("", *(whole.id for whole in WHOLE)), claim.id


def test_every_kind_of_claim_has_rungs_that_a_metric_must_see():
    assert {kind for claim in CLAIMS.values() for kind in claim.kinds} <= set(RUNGS) == set(get_args(Kind))
    arms = {*STUDIES["sensitivity"].arms, *STUDIES["sensitivity"].controls}
    assert {rung for rungs in RUNGS.values() for rung in rungs} <= arms


def test_the_claimed_lead_over_peers_is_that_of_the_published_numbers():
    claim = CLAIMS["vlm-l-beats-peers"]
    leads = {
        metric: sorted(round(values["AIMv2-L"] - values[peer], 1) for peer in ("OAI CLIP L", "SigLIP So400m"))
        for metric, values in claim.published.items()
    }
    assert leads == {"VQAv2": [1.7, 2.0], "TextVQA": [6.1, 6.1], "NoCaps (CIDEr)": [5.4, 6.6], "MMEp (score)": [-9, 39]}
    assert "1.7 to 6.1 points and 5.4 to 6.6 CIDEr better" in claim.claimed
    assert "on MMEp only CLIP is ahead, by 9" in claim.claimed


def test_counterparts_are_arms_of_studies_that_judge_a_claim_of_the_table():
    for table in paper_tables():
        arms = [row.arm for row in table.rows if row.arm]
        assert bool(arms) == bool(table.study)
        if table.study:
            assert set(arms) <= set(STUDIES[table.study].arms)
            assert any(table.study in CLAIMS[claim].studies for claim in table.claims)


def test_published_numbers_of_claims_are_those_of_the_tables():
    num_compared = 0
    for table in paper_tables():
        for claim in table.claims:
            for metric, values in CLAIMS[claim].published.items():
                for row in table.rows:
                    if metric in table.metrics and row.condition in values:
                        num_compared += 1
                        assert row.values[table.metrics.index(metric)] == values[row.condition], (claim, metric)
    assert num_compared > 40


def test_tables_are_whole_and_differences_are_from_the_reference():
    """Of each table, the differences in the metric that its probe stands in for."""
    for table in paper_tables():
        values = {row.condition: row.values for row in table.rows}
        assert set(table.claims) <= set(CLAIMS)
        assert {len(of_row) for of_row in values.values()} == {len(table.metrics)}
        reference = values[table.reference]
        assert {name: of_row[0] for name, of_row in table.differences.items()} == pytest.approx(
            {name: of_row[0] - reference[0] for name, of_row in values.items()}
        )
    assert len({table.id for table in paper_tables()}) == len(paper_tables())
