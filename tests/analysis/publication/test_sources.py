"""The realised mixture in reports, and the credits of sources."""

from dataclasses import replace
from pathlib import Path

import pytest
from analysis.evidence.load import load

from ablations.study import UNTRAINED
from aimv2.config.paths import replaced
from analysis.document.markdown import to_markdown
from analysis.inference.looks import Look
from analysis.judgement.findings import judge
from analysis.publication.sources import credits_text, mixture_table, repeats
from analysis.sections.study import document
from tests.helpers.evidence import write_run
from tests.helpers.specimen import STUDY


def shown(samples, size, dense=0, **bad):
    """Return a source of a run's record."""
    reasons = {reason.replace("_", " "): count for reason, count in bad.items()}
    return {"samples": samples, "short": samples - dense, "dense": dense, "epochs": samples / size, "bad": reasons}


@pytest.fixture
def evidence_with(cells, tmp_path):
    """Write the runs of two seeds, and return their evidence."""

    def write(mixture_of):
        some = [cell for cell in cells if cell.seed < 2]
        for cell in some:
            write_run(cell, tmp_path, 3.0 + 0.01 * cell.seed, mixture=mixture_of(cell))
        return some, load(some, tmp_path)

    return write


def test_equal_arms_share_their_rows(evidence_with):
    _, evidence = evidence_with(
        lambda cell: {
            "cc_3m": shown(300, 200, dense=99, missing_image=2 * cell.seed, empty_caption=1),
            "coyo": shown(100, 50),
        }
    )
    table = mixture_table(STUDY, evidence)
    num_runs = 2 * len(STUDY.conditions)
    assert len(evidence.mixture) == 2 * num_runs
    assert UNTRAINED not in set(evidence.mixture["arm"]), "it has seen nothing"
    assert table.rows == [
        ["all", r"cc\_3m", "300", "1.5", "33 %", "missing image: 2; empty caption: 2"],
        ["", "coyo", "100", "2", "0 %", "none"],
    ]
    assert repeats(STUDY, evidence) == []


def test_arms_that_differ_have_rows_of_their_own(evidence_with):
    def mixture_of(cell):
        return {"a": shown(0, 10), "b": shown(80, 10)} if cell.arm == "causal" else {"a": shown(40, 10)}

    _, evidence = evidence_with(mixture_of)
    table = mixture_table(STUDY, evidence)
    assert [row[1:3] for row in table.rows] == [["a", "40"], ["a", "0"], ["b", "80"]]
    assert table.rows[1][0] == STUDY.label("causal")
    assert table.rows[1][4] == "", "no share of no samples"
    assert STUDY.label("causal") not in table.rows[0][0]
    sentence, reason = repeats(STUDY, evidence)
    assert sentence == f"b was shown 8 times, in these arms: {STUDY.label('causal')}.", "4 epochs of a are not too many"
    assert "Up to 4 epochs of repeated text" in reason
    assert evidence.dense_share("causal") == 0


def test_report_shows_the_mixture_of_runs_that_have_one(evidence_with, request_of):
    some, evidence = evidence_with(lambda cell: {"a": shown(50, 10)})
    text = to_markdown(document(judge(replace(request_of, cells=some), evidence, Look(1), {}), {}))
    assert "| all | a | 50 | 5 | 0 % | none |" in text
    assert "a was shown 5 times" in text


def test_report_of_older_runs_shows_no_mixture(evidence_with, request_of):
    some, evidence = evidence_with(lambda cell: None)
    assert evidence.dense_share("uniform") is None
    text = to_markdown(document(judge(replace(request_of, cells=some), evidence, Look(1), {}), {}))
    assert "What training showed" not in text
    assert "33 % of the samples show the dense caption" in text


def test_credits_are_no_markup():
    credits = {"sources": ["OpenMoji (CC BY-SA 4.0)", "my_birds (by *me*)"], "sets": []}
    images = r"Images: OpenMoji (CC BY-SA 4.0), my\_birds (by \*me\*)."
    assert credits_text(credits) == images
    assert (
        credits_text(credits | {"sets": ["pets (none)", "b (CC0)"]}) == f"{images} Labelled sets: pets (none), b (CC0)."
    )


def test_report_credits_what_the_records_say(evidence_with, request_of, tmp_path):
    """It opens no description, which may be another one on another machine."""
    some, evidence = evidence_with(lambda cell: None)
    path = str(tmp_path / "birds.yaml")
    cells = [replace(cell, config=replaced(cell.config, {"data.sources": (path,)})) for cell in some]
    recorded = replace(evidence, credits={"sources": ["birds (CC0)"], "sets": []})
    pages = []
    for content in (None, "licence: another"):
        if content:
            Path(path).write_text(content)
        found = judge(replace(request_of, cells=cells), recorded, Look(1), {})
        pages.append(to_markdown(document(found, {})))
    assert pages[0].count("Images: birds (CC0).") == 2, "setup and checklist"
    assert pages[0] == pages[1]
