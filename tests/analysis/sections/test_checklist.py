"""The checklist says what the runs recorded, and leaves to the authors what no run can know."""

from dataclasses import replace
from typing import NamedTuple

import pandas as pd

from aimv2.analysis.evidence.run_files import load
from aimv2.analysis.evidence.tables import MIXTURE_COLUMNS
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.findings import judge
from aimv2.analysis.sections.checklist import section
from aimv2.config.paths import replaced
from aimv2.data.sources.credits import credits_of
from tests.helpers.documents import judged_again, lines_of, tables
from tests.helpers.evidence import evidence_from
from tests.helpers.own_data import own_source
from tests.helpers.searches import (
    parsed,
    request_of_search,
    typical,
    without_a_finished_trial,
    write_confirmation,
)

NEURIPS = range(1, 17)
MLRC = {"models": 3, "datasets": 5, "code": 5, "results": 6}


class Item(NamedTuple):
    question: str
    source: str
    answer: str
    detail: str
    origin: str


def items(findings):
    rows = tables(section(findings))["checklist"].rows
    return [
        Item(question, source, lines_of(answer)[0].strip("*"), lines_of(answer)[1], origin)
        for question, source, answer, origin in rows
    ]


def answers(findings):
    """Return the items by their first source."""
    return {item.source: item for item in items(findings)}


def numbers_of(name, sources):
    """Return the item numbers that follow a name in the sources."""
    found = []
    for source in sources:
        for part in source.split("; "):
            if part.startswith(f"{name} "):
                found += [int(number) for number in part.removeprefix(f"{name} ").split(", ")]
    return set(found)


def test_every_item_of_both_checklists_is_there(findings):
    sources = [item.source for item in items(findings)]
    assert numbers_of("NeurIPS", sources) == set(NEURIPS)
    for part, number in MLRC.items():
        assert numbers_of(f"MLRC {part}", sources) == set(range(1, number + 1))
    assert any("MLRC theoretical claims" in source for source in sources)


def test_values_of_a_search_are_in_its_section(findings, tiny):
    key = "NeurIPS 6; MLRC results 1"
    assert "The arms are the range: uniform on 1..I-1; fixed at 25 %;" in answers(findings)[key].detail
    request = request_of_search(tiny)
    item = answers(judge(request, evidence_from([], []), Look(1), {}, parsed(typical())))[key]
    assert "all 24 trials; the winner was chosen by content\\_loss on the validation split" in item.detail
    assert item.origin == "record of the search, config of the runs"


def test_search_without_a_confirmation_has_the_error_bars_of_its_baseline(tiny, tmp_path):
    request = request_of_search(tiny, has_winner=False)
    write_confirmation(request, tmp_path)
    evidence = load(request.cells, tmp_path)
    found = answers(judge(request, evidence, Look(1), {}, parsed(without_a_finished_trial())))
    bars = found["NeurIPS 7; MLRC results 4"]
    assert (bars.answer, bars.detail) == (
        "yes",
        "95 % intervals of the baseline's means over 4 seeds, which cover seeds only.",
    )
    assert "4 seeds of the baseline, beside all 2 trials of the search." in found["MLRC results 2"].detail
    assert "all 2 trials; they were compared by" in found["NeurIPS 6; MLRC results 1"].detail
    assert "None in the primary metric" not in found["NeurIPS 1, 2"].detail


def test_answers_come_from_runs(findings):
    found = answers(findings)
    assert "32 of 32 finished, 0 failed, 0 not finished; 4 seeds" in found["MLRC results 2"].detail
    assert found["NeurIPS 8; MLRC results 5, 6"].detail.startswith("a test; threads per run: 1. ")
    assert "Commit abc; digest of the code cccccccccccc." in found["NeurIPS 5; MLRC code 2, 3, 5"].detail
    assert found["NeurIPS 5; MLRC code 2, 3, 5"].answer == "yes"
    assert "97.5 % intervals" in found["NeurIPS 7; MLRC results 4"].detail
    assert "cover seeds, over 4 seeds" in found["NeurIPS 7; MLRC results 4"].detail
    assert "10 training pairs and 5 held-out pairs" in found["NeurIPS 6; MLRC datasets 1, 2"].detail
    assert "1,000 parameters in the encoder and 2,000 others" in found["MLRC models 3"].detail
    assert found["NeurIPS 12"].answer == "yes"
    assert "OpenMoji (CC BY-SA 4.0)" in found["NeurIPS 12"].detail
    assert found["NeurIPS 3; MLRC theoretical claims"].answer == "does not apply"
    assert found["MLRC datasets 3"].answer == "no", "these runs did not record their mixture"


def test_bad_samples_are_summed(findings):
    rows = [("uniform", seed, "a", 10, 0, 1.0, *([2] + [0] * (len(MIXTURE_COLUMNS) - 7))) for seed in range(3)]
    evidence = replace(findings.evidence, mixture=pd.DataFrame(rows, columns=MIXTURE_COLUMNS))
    item = answers(judged_again(findings, evidence))["MLRC datasets 3"]
    assert item.answer == "yes"
    assert f"{MIXTURE_COLUMNS[6]}: 6." in item.detail


def test_code_with_uncommitted_changes_is_available_only_in_part(findings):
    runs = findings.evidence.runs.assign(commit="abc+changes")
    item = answers(judged_again(findings, replace(findings.evidence, runs=runs)))["NeurIPS 5; MLRC code 2, 3, 5"]
    assert item.answer == "partly"
    assert "with uncommitted changes" in item.detail


def test_commit_that_trained_weights_counts_beside_the_one_that_measured_them(findings):
    runs = findings.evidence.runs.assign(commit="abc+changes; def")
    item = answers(judged_again(findings, replace(findings.evidence, runs=runs)))["NeurIPS 5; MLRC code 2, 3, 5"]
    assert item.answer == "partly"


def test_data_of_the_authors_are_for_the_authors(findings, tmp_path):
    source = own_source(tmp_path, "birds", num_pairs=10, licence="")
    cells = [
        replace(cell, config=replaced(cell.config, {"data.sources": (source,)})) for cell in findings.request.cells
    ]
    evidence = replace(findings.evidence, credits=credits_of(cell.config for cell in cells))
    found = answers(replace(findings, evidence=evidence, request=replace(findings.request, cells=cells)))
    assert found["NeurIPS 5; MLRC datasets 4, 5"].answer == "for the authors"
    assert found["NeurIPS 14, 15"].answer == "for the authors"
    assert found["NeurIPS 12"].answer == "partly"
    assert "no licence stated" in found["NeurIPS 12"].detail
    assert answers(findings)["NeurIPS 14, 15"].answer == "does not apply"
