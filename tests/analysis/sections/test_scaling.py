"""The section on a study's scaling law, from evidence that follows a known law, and the parts of any law."""

from dataclasses import replace

import numpy as np
import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.analysis.document.model import Document, Section
from aimv2.analysis.document.pages import to_markdown
from aimv2.analysis.document.style import style
from aimv2.analysis.inference.scaling_law import assess
from aimv2.analysis.sections.scaling import Fitted, conclusion, law_blocks, law_numbers, law_of, scaling_runs, section
from aimv2.base.errors import escape
from tests.helpers.documents import number_of, tables, text_of
from tests.helpers.evidence import evidence_from
from tests.helpers.scaling import HOFFMANN, ladder_runs, loss_of, scaling_evidence
from tests.helpers.specimen import STUDY as OTHER

STUDY = STUDIES["scaling"]
LAW = {"E": 0.35, "A": 2e3, "B": 320.0, "a": 0.75, "b": 0.65}
LABELS = {"n": "parameters", "d": "tokens", "loss": "loss"}
MEANINGS = {"n": 'column "parameters"', "d": 'column "tokens"', "L": 'column "loss"'}
HOSTILE = "![x](/etc/hostname) a|b*<script>$x$_`c`"  # a header that must stay text


@pytest.fixture(autouse=True)
def styled():
    with style():
        yield


@pytest.fixture(scope="module")
def evidence():
    return scaling_evidence(STUDY, LAW, noise=0.005)


@pytest.fixture(scope="module")
def law(evidence):
    return law_of(STUDY, evidence, num_draws=20)


def test_failed_runs_are_counted_and_sizes_that_keep_their_order_agree(evidence, law):
    missing = evidence_from([], [], missing=[("size_100_samples_025", 7, True)]).missing
    shown = section(STUDY, replace(evidence, missing=missing), law)
    assert "1 runs failed, so the others are a selection." in text_of(shown)
    assert all(number_of(row[3]) == 1 for row in tables(shown)["decision_accuracy"].rows)
    runs = scaling_runs(STUDY, evidence)
    fitted = law.law.law.predict(runs)
    np.testing.assert_allclose(fitted, loss_of(LAW, runs["n"], runs["d"]), rtol=0.01)


def test_shorter_runs_than_half_of_the_baselines_do_not_move_the_law(evidence, law):
    samples = evidence.runs.groupby("arm")["samples"].first()
    metrics = evidence.metrics
    is_short = metrics["arm"].str.endswith("_samples_025")
    bent = metrics.assign(value=metrics["value"].where(~is_short, 2 * metrics["value"]))
    refitted = law_of(STUDY, replace(evidence, metrics=bent), num_draws=20)
    assert refitted.law.law.parameters == law.law.law.parameters
    assert law.law.runs["d"].min() == samples["size_100_samples_050"] == samples["size_100_samples_100"] / 2


def test_other_studies_have_no_law(evidence):
    assert section(OTHER, evidence, law_of(OTHER, evidence)) is None


def test_mixed_code_and_too_few_runs_have_a_reason_and_no_number(evidence):
    def text(evidence):
        return text_of(section(STUDY, evidence, law_of(STUDY, evidence)))

    mixed = replace(evidence, runs=evidence.runs.assign(code=np.where(evidence.runs["seed"] == 0, "a", "b")))
    assert text(mixed) == "No law is fitted: the runs are of 2 codes."
    few = evidence.runs["arm"].isin(["size_100_samples_025", "size_050_samples_050"])
    reason = "E + A n^-a + B d^-b needs 3 values of n and the runs have 2; run others"
    assert text(replace(evidence, runs=evidence.runs[few])) == f"No law is fitted: {reason}."
    assert text(evidence_from([], [])) == "No law is fitted: there are no runs."


def test_law_concludes_nothing_where_a_control_did_not_pass(evidence, law):
    text = text_of(section(STUDY, evidence, law, ["null control failed in content_loss"]))
    assert text.startswith("The law describes these runs and concludes nothing: null control failed in content_loss.")


@pytest.fixture(scope="module")
def fitted():
    runs = ladder_runs(HOFFMANN, noise=0.01)
    return Fitted(assess(runs.assign(flops=6 * runs["n"] * runs["d"]), ["n", "d"], num_draws=30), LABELS, MEANINGS)


def test_what_is_not_identified_is_in_the_conclusion_and_the_warnings(fitted):
    doubtful = replace(fitted, law=replace(fitted.law, draws=fitted.law.draws.assign(A=0.0)))
    assert "Not identified: a, A." in conclusion(doubtful)
    assert "A is not identified" in text_of(Section("", law_blocks(doubtful)))
    assert not law_numbers(doubtful)["parameters"]["A"]["is_identified"]


def test_one_variable_has_no_frontier_and_a_form_may_be_untested():
    runs = ladder_runs(HOFFMANN, noise=0.01, num_seeds=1, sizes=1, samples=7)[["d", "loss"]]
    one = Fitted(assess(runs, ["d"], num_draws=5), LABELS, MEANINGS)
    assert set(tables(Section("", law_blocks(one)))) == {"scaling_parameters"}
    assert "(no interval)" in conclusion(one)
    small = ladder_runs(HOFFMANN, noise=0.01, num_seeds=1, sizes=3, samples=3)
    untested = Fitted(
        assess(small.assign(flops=1.0 * small["n"] * small["d"]), ["n", "d"], num_draws=5), LABELS, MEANINGS
    )
    assert "Its form is not tested." in conclusion(untested)
    assert "not tested on larger runs: nothing is held out" in text_of(Section("", law_blocks(untested)))


def test_labels_are_text_and_no_markup(fitted):
    labels, meanings = dict.fromkeys(LABELS, HOSTILE), dict.fromkeys(MEANINGS, HOSTILE)
    parts = Section("", law_blocks(replace(fitted, labels=labels, meanings=meanings)))
    markdown = to_markdown(Document("a", "b", "c", [parts]))
    assert markdown.count(escape(HOSTILE)) == 5  # two headings and three meanings
    assert HOSTILE not in markdown
