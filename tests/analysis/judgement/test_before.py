"""Encoders before training, by chosen numbers."""

from dataclasses import replace

import pytest
from scipy import stats

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expand import expand
from aimv2.ablations.expectations import CONTENT, READER, Combination, expect, slope
from aimv2.ablations.study import UNTRAINED
from aimv2.analysis.inference.relations import Word
from aimv2.analysis.judgement.before import names_of, qualifications, starts
from aimv2.analysis.judgement.compare import Differences
from aimv2.analysis.judgement.verdicts import verdicts
from aimv2.config.recipes.scales import SCALES
from aimv2.request.resolve import with_attention
from tests.helpers.evidence import evidence_of, passed_controls, sensitive

STUDY = STUDIES["positions"]
SINCOS = "untrained_sincos"
NAMES = {"learned": UNTRAINED, "sincos": SINCOS, "decoder": UNTRAINED}
WORSE = expect("sincos", "worse", than="learned", metric=READER, margin=0.1)
CLAIM = "swiglu-rmsnorm"  # any


def measured(effects, *, more=(SINCOS,), metrics=(READER, CONTENT), spread=0.01, study=STUDY):
    return evidence_of(study, effects, spread=spread, metrics=metrics, more=more)


def qualified(evidence, expectations=WORSE, names=NAMES, study=STUDY):
    return qualifications(study, Differences(study, evidence), names, expectations)


def test_names_follow_from_the_cells_whether_or_not_they_include_untrained_encoders():
    cells = expand(STUDY, with_attention(SCALES["demo"]()), seeds=[0])
    assert names_of(STUDY, cells) == NAMES
    assert names_of(STUDY, [cell for cell in cells if cell.arm in STUDY.arms]) == NAMES, "as in older records"


def test_a_start_is_the_paired_difference_of_two_untrained_encoders():
    evidence = measured({SINCOS: 0.2})
    (one,) = starts(STUDY, evidence, NAMES)
    paired = evidence.value(READER, SINCOS) - evidence.value(READER, UNTRAINED)
    low, high = stats.t.interval(0.95, len(paired) - 1, paired.mean(), stats.sem(paired))
    assert (one.arm, one.metric, one.untrained) == ("sincos", READER, SINCOS)
    assert (one.difference.mean, one.difference.low, one.difference.high) == pytest.approx((paired.mean(), low, high))


def test_a_start_that_was_not_measured_has_no_seeds():
    (one,) = starts(STUDY, measured({}, more=()), NAMES)
    assert one.difference.n == 0


@pytest.mark.parametrize(
    ("effect", "start"),
    [
        (0.3, f"the encoders differ before training ({READER}, sine and cosine minus learned: +0."),
        (-0.3, f"the encoders differ before training ({READER}, sine and cosine minus learned: -0."),
        (0.0, ""),
        (0.05, ""),  # detected, within the margin
    ],
)
def test_a_difference_before_training_qualifies_unless_it_is_within_the_margin(effect, start):
    notes = qualified(measured({SINCOS: effect}, spread=0.005))
    assert len(notes) == bool(start)
    assert all(note.startswith(start) and note.endswith("not the effect of training alone") for note in notes)


def test_a_difference_that_is_not_ruled_out_qualifies_too():
    (note,) = qualified(measured({}, spread=1.0))
    assert note.startswith("the encoders may differ by the margin before training")


def test_what_was_not_measured_is_named_where_encoders_differ_and_only_there():
    evidence = measured({}, more=())
    assert qualified(evidence) == ["not measured before training, where encoders differ: sine and cosine"]
    assert qualified(evidence, expect("decoder", "worse", than="learned", metric=READER)) == []
    assert qualified(evidence, expect("sincos", "worse", than="learned", metric=CONTENT)) == [], "of the decoder too"
    assert qualified(evidence, names={}) == []


SCALING = STUDIES["scaling"]
SIZES = {"size_100_samples_200": 0, "size_200_samples_200": 1}


def test_a_slope_over_sizes_is_taken_before_training_too_and_one_over_samples_is_not():
    names = {
        arm: UNTRAINED if arm.startswith("size_100") else f"untrained_{arm[:8]}_samples_025" for arm in SCALING.arms
    }
    wider = "untrained_size_200_samples_025"
    evidence = measured({wider: -0.5}, more=[wider], metrics=(READER,), study=SCALING)
    over_sizes = Combination(name="slope", metric=READER, weights=slope(SIZES), relation="better", margin=0.1)
    levels = {f"size_200_samples_{level}": place for place, level in enumerate(("025", "050", "100", "200"))}
    over_samples = replace(over_sizes, weights=slope(levels))
    mean = (evidence.value(READER, wider) - evidence.value(READER, UNTRAINED)).mean()
    (note,) = qualified(evidence, [over_sizes, over_samples], names, SCALING)
    assert note.startswith(f"the encoders differ before training ({READER}, slope: {mean:+.3f} [")
    assert note.count(READER) == 1


@pytest.mark.parametrize("trained", [0.5, 0.0])
def test_a_verdict_is_qualified_and_not_withheld(trained):
    study = replace(STUDY, claims={CLAIM: WORSE})
    evidence = measured({SINCOS: 0.3, "sincos": trained})
    options = {
        "controls": passed_controls(study),
        "sensitivity": sensitive(READER),
        "config": with_attention(SCALES["demo"]()),
    }
    plain = verdicts(study, evidence, **options)[CLAIM]
    found = verdicts(study, evidence, untrained=NAMES, **options)[CLAIM]
    assert (found.word, found.evidence) == (plain.word, plain.evidence)
    more = found.qualifications[len(plain.qualifications) :]
    assert found.word is (Word.SUPPORTED if trained else Word.UNDECIDED)
    assert [note.startswith("the encoders differ before training") for note in more] == [True] * bool(trained)
