"""The claims and tables of the paper."""

from collections import Counter
from typing import get_args

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.claims import CLAIMS, Kind, paper_tables, read_claims, read_tables
from aimv2.ablations.studies.sensitivity import RUNGS
from aimv2.base.errors import UsageError

WHOLE = [claim for claim in CLAIMS.values() if not claim.part_of]
ONE = """
claims:
- id: first
  source: Table 1
  statement: One is better.
  claimed: better
  contradicted_if: it is worse
  evidence: measured once
  studies: [loss_weight]
  kinds: [words]
"""


def read(folder, text):
    path = folder / "claims.yaml"
    path.write_text(text)
    return read_claims(path)


def test_the_file_has_the_papers_claims_and_parts_of_them():
    assert len(WHOLE) == 51
    assert {claim.part_of for claim in CLAIMS.values()} == {"", "prefix-beats-causal"}


def test_claims_and_studies_agree_on_what_is_judged_where():
    stated = {(claim.id, slug) for claim in CLAIMS.values() for slug in claim.studies}
    assert stated == {(name, slug) for slug, study in STUDIES.items() for name in study.claims}


def test_claims_of_one_source_stand_together():
    """A list by source has each heading once."""
    sources = [claim.source for claim in CLAIMS.values()]
    blocks = [source for source, before in zip(sources, ["", *sources], strict=False) if source != before]
    assert [source for source, count in Counter(blocks).items() if count > 1] == []


def test_published_numbers_compare_two_conditions_or_more():
    assert all(len(values) > 1 for claim in CLAIMS.values() for values in claim.published.values())
    measured = [claim for claim in CLAIMS.values() if claim.evidence == "asserted"]
    assert all(not claim.published or claim.id == "data-mix" for claim in measured), "nothing was measured"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (ONE.replace("studies:", "studys:"), "claim first: unknown key 'studys'. Did you mean 'studies'?"),
        (ONE.replace("[loss_weight]", "[]"), "exactly one of studies, not_testable and no_study is needed, and none"),
        (ONE + "  no_study: later\n", "is needed, and studies and no_study is given"),
        (ONE + ONE.replace("claims:\n", ""), "the id first is given twice"),
        (ONE.replace("  kinds: [words]\n", ""), "kinds are needed for claims that studies judge, and for no others"),
        (ONE.replace("studies: [loss_weight]", "no_study: later"), "kinds are needed for claims that studies judge"),
        (ONE.replace("[words]", "[letters]"), "claim first: kinds.0: Input should be 'words', 'pixels', "),
        (ONE + "  part_of: second\n", "unknown part_of of first 'second'"),
        ("claims:\n- text\n", "claim 1: Input should be a dictionary"),
        ("claims: {}\n", "claims must have a list of claims"),
        ("claims: [!!python/object/apply:os.getcwd []]\n", "is not YAML"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path, text, problem):
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert problem in str(caught.value)
    assert str(tmp_path) in str(caught.value) or "part_of" in problem
    assert "\n" not in str(caught.value)


def test_numbers_without_a_verdict_are_those_of_studies_that_exist(tmp_path):
    assert {slug for claim in CLAIMS.values() for slug in claim.measured_by} == {"scaling"} <= set(STUDIES)
    with pytest.raises(UsageError, match="measured_by is for claims without a verdict"):
        read(tmp_path, ONE + "  measured_by: {scaling: a slope}\n")


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


def test_statements_stand_alone():
    """A filtered table may show a part without its claim."""
    assert [claim.id for claim in CLAIMS.values() if "The same" in claim.statement] == []


TABLE = """
tables:
- id: table-1
  title: Sizes (Table 1)
  claims: [scaling-params-probe]
  study: scaling
  metrics: [IN-1k probe, VQAv2]
  reference: small
  rows:
  - {condition: small, values: [70.1, 60.0], arm: size_100_samples_400}
  - {condition: large, values: [70.3, 59.5]}
"""


def read_table(folder, text):
    path = folder / "tables.yaml"
    path.write_text(text)
    return read_tables(path)


def test_counterparts_are_arms_of_studies_that_judge_a_claim_of_the_table():
    for table in paper_tables():
        arms = [row.arm for row in table.rows if row.arm]
        assert bool(arms) == bool(table.study)
        if table.study:
            assert set(arms) <= set(STUDIES[table.study].arms)
            assert any(table.study in CLAIMS[claim].studies for claim in table.claims)


def test_published_numbers_of_claims_are_those_of_the_tables():
    """Both files have them; conditions that both name must agree."""
    num_compared = 0
    for table in paper_tables():
        for claim in table.claims:
            for metric, values in CLAIMS[claim].published.items():
                for row in table.rows:
                    if metric in table.metrics and row.condition in values:
                        num_compared += 1
                        assert row.values[table.metrics.index(metric)] == values[row.condition], (claim, metric)
    assert num_compared > 40


def test_differences_are_from_the_reference(tmp_path):
    (table,) = read_table(tmp_path, TABLE)
    assert table.differences == {"small": (0.0, 0.0), "large": (0.2, -0.5)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (TABLE.replace("reference: small", "reference: tiny"), "reference 'tiny' is no row"),
        (TABLE.replace("[70.3, 59.5]", "[70.3]"), "large has 1 values and there are 2 metrics"),
        (TABLE.replace("  study: scaling\n", ""), "small has an arm, and the table no study"),
        (TABLE.replace("scaling-params-probe", "sizes"), "unknown claim of table-1 'sizes'"),
        (TABLE.replace("title:", "name:"), "title: Field required"),
        (TABLE + "  note: none\n", "unknown key 'note'"),
        (TABLE.replace("tables:", "table:"), "must have one key, tables"),
        ("- 1\n", "must contain keys with values"),
    ],
)
def test_what_is_wrong_in_a_table_is_said_in_one_sentence(tmp_path, text, problem):
    with pytest.raises(UsageError, match=problem) as caught:
        read_table(tmp_path, text)
    assert "\n" not in str(caught.value)
