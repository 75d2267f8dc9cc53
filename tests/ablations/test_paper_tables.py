import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.claims import CLAIMS, paper_tables, read_tables
from aimv2.base.errors import UsageError

ONE = """
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


def read(folder, text):
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
    (table,) = read(tmp_path, ONE)
    assert table.differences == {"small": (0.0, 0.0), "large": (0.2, -0.5)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (ONE.replace("reference: small", "reference: tiny"), "reference 'tiny' is no row"),
        (ONE.replace("[70.3, 59.5]", "[70.3]"), "large has 1 values and there are 2 metrics"),
        (ONE.replace("  study: scaling\n", ""), "small has an arm, and the table no study"),
        (ONE.replace("scaling-params-probe", "sizes"), "unknown claim of table-1 'sizes'"),
        (ONE.replace("title:", "name:"), "title: Field required"),
        (ONE + "  note: none\n", "note: Unexpected keyword argument"),
        (ONE.replace("tables:", "table:"), "must have one key, tables"),
        ("- 1\n", "must contain keys with values"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path, text, problem):
    with pytest.raises(UsageError, match=problem) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)
