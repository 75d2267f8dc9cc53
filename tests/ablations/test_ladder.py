"""What of the sensitivity a study lacks, said once for all of its metrics and claims."""

from dataclasses import replace

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.ladder import needs, typed_value, unmeasured
from aimv2.config.program import replaced
from aimv2.config.recipes.scales import demo
from aimv2.definitions.programs import absent_metrics
from tests.helpers.ladders import ladder_of, seeing

WORDS = {"untrained", "positive_control", "pixels_only"}
BOTH = STUDIES["encoder_attention"]  # content_loss and reader_loss, for claims on words and on attention


def lacking(study, ladder, config=None, **values):
    return unmeasured(study, config or demo(), ladder, **values)


def test_each_metric_needs_the_rungs_of_its_own_claims():
    study = STUDIES["scaling"]  # samples by content_loss; larger encoders by reader_loss
    found = needs(study, demo())
    assert found["content_loss"] >= {"untrained", "positive_control"}
    assert "pixels_only" not in found["content_loss"], "such a network has no decoder of captions"
    assert found["reader_loss"] >= {*WORDS, "width_200", "depth_200"}
    assert needs(replace(study, claims={}), demo()) == {study.primary_metric: found["content_loss"] & WORDS}


def test_pixel_losses_and_bases_without_captions_need_own_pixels():
    study = replace(STUDIES["eos"], primary_metric="pixel_loss_0.5")
    assert needs(study, demo()) == {"pixel_loss_0.5": {"untrained", "pixels_shuffled"}}
    base = replaced(demo(), {"objective": {"name": "image_only"}})
    assert needs(STUDIES["eos"], base) == {"reader_loss": {"untrained", "pixels_shuffled"}}


def test_weights_allow_no_other_size():
    study = STUDIES["decoder_sharing"]
    assert needs(study, demo()) == dict.fromkeys(("reader_loss", "probe_ink"), WORDS | {"width_050"})
    assert needs(study, replaced(demo(), {"start.weights": "/a/run"})) == dict.fromkeys(
        ("reader_loss", "probe_ink"), WORDS
    )


def test_all_metrics_are_named_at_once_where_nothing_was_measured():
    message = "the sensitivity of {} at scale demo was not measured"
    assert lacking(BOTH, None) == message.format("content_loss, reader_loss, probe_ink")
    assert lacking(BOTH, None, absent=["reader_loss", "probe_ink"]) == message.format("content_loss")
    assert lacking(BOTH, None, absent=["reader_loss", "probe_ink", "content_loss"]) == "", (
        "nothing can be concluded anyway"
    )


def test_three_differing_values_of_another_base_are_named_and_own_data_by_their_files():
    values = {"objective.supervise_eos": True, "log.every_steps": 2, "optimizer.clip_norm": 2.0}
    values |= {"model.decoder.depth": 3, "optimizer.beta1": 0.8, "data.fingerprint": "other", "threads": 2, "seed": 9}
    ladder = ladder_of(seeing("content_loss"), demo())
    found = lacking(BOTH, ladder, replaced(demo(), values))
    assert found.startswith("the sensitivity of content_loss, reader_loss, probe_ink at scale demo was measured with ")
    assert found.endswith("and 1 more"), "fingerprint, threads, seed and log do not count"
    assert found.count("=") == 6
    own = replaced(demo(), {"data.sources": ("/data/cc3m.yaml",), "data.fingerprint": "one"})
    found = lacking(BOTH, ladder, own)
    assert "data.sources=[material_scenes,fontawesome_scenes,openmoji_scenes]" in found
    assert "not with data.sources=[cc3m], data.fingerprint=one" in found


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ""),
        ({"width_050": None, "samples_025": None}, ""),
        ({"hidden_050": None, "pixels_only": None}, " has no results for 'pixels only', 'half of the patches hidden'"),
        ({"positive_control": None}, " has no results for 'shuffled captions, or pixels if there are none'"),
        (
            dict.fromkeys(("samples_025", "samples_050", "samples_075", "samples_200")),
            " has no results for '0.25 x the samples', '0.5 x",
        ),
    ],
)
def test_rungs_and_metrics_that_the_study_needs_are_named(changed, expected):
    found = lacking(BOTH, ladder_of(seeing("content_loss", "reader_loss", "probe_ink", **changed), demo()))
    assert found.startswith(f"the sensitivity study of this base run{expected}" if expected else "")
    assert bool(found) == bool(expected)
    found = lacking(BOTH, ladder_of(seeing("content_loss"), demo()))
    assert found == "the sensitivity study of this base run has no results for reader_loss, probe_ink"


def test_metrics_that_runs_cannot_have_are_known_before_they_run():
    own = replaced(demo(), {"data.sources": ("openmoji",)})
    assert {"probe_object", "content_loss_place"} <= set(absent_metrics(own))
    assert not {"probe_object", "content_loss", "probe_digits"} & set(absent_metrics(demo()))


@pytest.mark.parametrize(
    ("value", "text"),
    [((0.6, 0.4), "[0.6,0.4]"), (None, "null"), (True, "true"), (["a.yaml"], "[a.yaml]"), (0.33, "0.33")],
)
def test_values_are_shown_as_they_are_typed(value, text):
    assert typed_value(value) == text
