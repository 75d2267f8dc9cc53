from dataclasses import replace

from aimv2.analysis.sections.agreement import scales_section
from tests.helpers.documents import at_scale, changed, lines_of, number_of, tables
from tests.helpers.evidence import evidence_of
from tests.helpers.specimen import STUDY


def at(findings, scale, samples, effects, rng=0):
    evidence = evidence_of(STUDY, effects, spread=0.01, rng=rng)
    return at_scale(findings, evidence, scale=scale, samples=samples)


def test_scales_that_rank_arms_alike_agree_and_others_do_not(findings):
    arms = list(STUDY.arms)
    rising = {arm: float(place) for place, arm in enumerate(arms)}
    falling = {arm: -value for arm, value in rising.items()}
    scales = [
        at(findings, "small", 4000, falling, 2),
        at(findings, "tiny", 1000, rising),
        at(findings, "demo", 2000, falling, 1),
    ]
    found = scales_section(scales)
    (rows,) = (table.rows for table in tables(found).values())
    pairs = len(arms) * (len(arms) - 1) // 2
    loss = "held-out loss of content words"
    assert [row[:3] for row in rows] == [[loss, "tiny", "small"], [loss, "demo", "small"]]
    assert [number_of(lines_of(row[3])[0]) for row in rows] == [0, 1]
    assert lines_of(rows[1][3]) == ("1.00 [1.00, 1.00]", f"n = {pairs}")
    assert number_of(lines_of(rows[0][5])[0]) == -1
    (part,) = found.blocks
    assert part.title == findings.study.folder


def test_one_scale_and_mixed_code_have_no_agreement(findings):
    tiny, demo = at(findings, "tiny", 1000, {}), at(findings, "demo", 2000, {})
    assert scales_section([tiny]) is None
    assert scales_section([tiny, demo]) is not None
    codes = tiny.evidence.runs.assign(run=range(len(tiny.evidence.runs)))
    codes["code"] = ["a" if seed else "b" for seed in codes["seed"]]
    mixed = changed(tiny, evidence=replace(tiny.evidence, runs=codes))
    assert scales_section([mixed, demo]) is None
