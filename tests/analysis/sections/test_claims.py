from dataclasses import replace

from aimv2.ablations.expectations import PROBE, expect
from aimv2.analysis.sections import claims
from aimv2.analysis.sections.claims import _margins_note as margins_note
from tests.helpers.documents import judged_again
from tests.helpers.specimen import STUDY


def test_study_without_claims_has_no_section(findings):
    without = judged_again(findings, findings.evidence, study=replace(STUDY, claims={}))
    assert (claims.section(without), claims.summary(without), claims.chips(without)) == (None, None, [])


def test_margins_have_their_reason():
    own = {
        "one": expect("causal", "worse", than="uniform", metric=("content_loss", PROBE)),
        "another": expect("causal", "far worse", than="uniform", metric=PROBE, margin=0.05, why="a table"),
    }
    study = replace(STUDY, claims=own)
    assert margins_note(study) == (
        "content_loss 0.02 (set for this study); probe_object 0.01 (by convention); probe_object 0.05 (a table)"
    )
    measured = replace(study, equivalence_margin=None).with_margins({"content_loss": 0.0321, PROBE: 0.02})
    assert margins_note(measured) == (
        "content_loss 0.0321 (what 10 % of the samples are worth);"
        " probe_object 0.02 (what 10 % of the samples are worth); probe_object 0.05 (a table)"
    )
