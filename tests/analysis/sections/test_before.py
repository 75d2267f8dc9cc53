import re

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expand import expand
from aimv2.ablations.expectations import READER
from aimv2.ablations.request import Request
from aimv2.ablations.study import UNTRAINED
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.findings import judge
from aimv2.analysis.judgement.guards import arm_notes
from aimv2.analysis.sections import before
from aimv2.analysis.sections.claims import controls_section
from aimv2.analysis.sections.numbers import numbers_of
from tests.helpers.documents import by_row, tables, text_of
from tests.helpers.evidence import evidence_of, sensitive

SINCOS = "untrained_sincos"


@pytest.fixture
def judged(tiny):
    """A function that judges the study of positions by chosen effects and further cells."""

    def judged(effects, more=(SINCOS,), slug="positions"):
        study = STUDIES[slug]
        evidence = evidence_of(study, effects, spread=0.01, metrics=(READER,), more=more)
        request = Request(study=study, cells=expand(study, tiny), arguments=(f"sweep={slug}",))
        return judge(request, evidence, Look(1), sensitive(READER))

    return judged


def test_difference_before_training_stands_beside_that_after_it(judged):
    findings = judged({SINCOS: 0.3, "sincos": 0.4})
    evidence, found = findings.evidence, controls_section(findings)
    table = by_row(tables(found)["before_training"])
    assert list(table) == ["learned", "sine and cosine"]
    for label, name in (("learned", UNTRAINED), ("sine and cosine", SINCOS)):
        mean = evidence.mean(READER, name)
        assert table[label]["before training [95 % interval]"] == (mean.text(".4f"),)
    for column, one, other in (
        ("difference before training", SINCOS, UNTRAINED),
        ("difference after training", "sincos", "learned"),
    ):
        mean = (evidence.value(READER, one) - evidence.value(READER, other)).mean()
        assert table["sine and cosine"][column][0].startswith(f"{mean:+.4f} [")
    assert "Part of the difference after training may have been there before: sine and cosine." in text_of(found)
    (note,) = arm_notes(findings, "sincos", READER)
    assert re.fullmatch(r"before training \+0\.\d+ \[.*\] from the baseline already", note)
    assert arm_notes(findings, "decoder", READER) == arm_notes(findings, "sincos") == ()
    (values,) = numbers_of(findings)["before_training"]
    assert (values["arm"], values["untrained"], values["difference"]["n"]) == ("sincos", SINCOS, 4)


def test_equal_encoders_before_training_are_reported_as_such(judged):
    findings = judged({SINCOS: 0, "sincos": 0.4})
    assert not findings.starts[0].difference.excludes_zero, "by these numbers"
    assert "No difference before training excludes 0." in text_of(before.section(findings))
    assert arm_notes(findings, "sincos", READER) == ()


def test_records_without_these_runs_say_so_where_architectures_differ(judged):
    findings = judged({"sincos": 0.4}, more=())
    text = text_of(controls_section(findings))
    assert "Not measured before training: sine and cosine. The same launch again adds these runs." in text
    assert "before_training" not in tables(controls_section(findings))
    assert arm_notes(findings, "sincos", READER) == ("not measured before training",)
    (values,) = numbers_of(findings)["before_training"]
    assert values["difference"] is None


def test_a_study_of_one_architecture_says_nothing(judged):
    findings = judged({}, more=(), slug="decoder_width")
    assert before.section(findings) is None
    assert "before_training" not in numbers_of(findings)
    assert "before training" not in text_of(controls_section(findings)).lower()
