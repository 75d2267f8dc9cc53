"""Studies on data of a user's own: metrics, arms of the sources at hand, and what is said about both."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expand import adapted, announcements, expand
from aimv2.ablations.expectations import CONTENT, DIGITS, PROBE, expect
from aimv2.ablations.request import Request, read_request, write_request
from aimv2.ablations.study import study_overrides
from aimv2.base.errors import UsageError
from aimv2.config.paths import replaced
from aimv2.config.recipes.mixtures import PRESETS
from aimv2.config.recipes.scales import demo
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import prepare
from aimv2.model.network import build
from aimv2.request.resolve import with_attention
from aimv2.spec.metrics import metric_names, not_applicable
from aimv2.spec.objectives import objective
from aimv2.training.loop import train
from tests.helpers.own_data import own_source
from tests.helpers.training import Rows

SET = "/sets/flowers-102.yaml"
studies = pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)


@pytest.fixture(scope="module")
def own(tiny, tmp_path_factory):
    """A run on two sources of one's own, of 60 pictures each."""
    folder = tmp_path_factory.mktemp("own")
    sources = (own_source(folder, "birds"), own_source(folder, "small-boats"))
    values = {"budget.samples": 64, "model.decoder.depth": 3, "evaluation.probe.head_dim": 8}
    return replaced(tiny, {"data.sources": sources, **values})


def with_sources(run, *names, **values):
    """Return a run on sources of these names, which no test opens."""
    sources = tuple(f"/data/{name}.yaml" for name in names)
    return replaced(run, {"data.sources": sources} | {f"data.{name}": value for name, value in values.items()})


@studies
def test_on_the_built_in_scenes_studies_stay_as_they_are(study):
    assert adapted(study, demo()) is study


LATER = {  # studies
    *(
        "batch_size",
        "crop_scale",
        "decoder_size",
        "high_res_adaptation",
        "optimizer",
        "patch_order",
        "sample_efficiency",
    ),
}
LATER_ARMS = {  # or arms that were changed
    "prefix_distribution": {"causal", "fixed_50"},
    "scaling": {arm for arm in STUDIES["scaling"].arms if not arm.startswith("size_100") or arm.endswith("400")},
    "sensitivity": {"samples_075", "width_050", "width_200", "depth_200", "pixels_only"},
}


def test_stored_runs_keep_their_names():
    """All cells of the studies at demo, as computed by the version before sources of one's own (commit db47e7b)."""
    base = with_attention(demo())
    names = [
        f"{slug} {cell.arm} {cell.seed} {cell.name}"
        for slug, study in STUDIES.items()
        if slug not in LATER
        for cell in expand(adapted(study, base), base)
        if cell.arm not in LATER_ARMS.get(slug, ()) and not cell.arm.startswith("untrained_")
    ]
    assert (len(names), hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]) == (572, "9a4a7d165e349570")


@studies
@pytest.mark.parametrize("sets", [(), (SET, "/sets/pets.yaml")], ids=["no set", "two sets"])
def test_every_study_expands_on_own_data_and_has_its_primary_metric(study, sets, own):
    base = replaced(own, {"evaluation.sets": sets})
    fitted = adapted(study, base)
    cells = expand(fitted, base, seeds=[0])
    absent = not_applicable(objective("aimv2"), cells[0].config)
    assert fitted.primary_metric in metric_names(base)
    assert fitted.primary_metric not in absent
    assert {cell.arm for cell in cells} >= {*fitted.arms, *fitted.controls}
    used = {PROBE, DIGITS} if sets else {PROBE}
    assert not used & set(fitted.deciding_metrics)
    if set(study.deciding_metrics) & used:
        assert ("probe_flowers_102" if sets else DIGITS) in fitted.deciding_metrics
    claimed = {m for seen in fitted.claims.values() for one in seen for m in one.metrics}
    assert claimed <= set(metric_names(base))


@pytest.mark.parametrize("arm", ["base", "pixels_shuffled", "hidden_050", "depth_050", "positive_control"])
def test_arms_of_the_sensitivity_study_train_on_own_data(arm, own):
    study = adapted(STUDIES["sensitivity"], own)
    config = next(cell.config for cell in expand(study, own, seeds=[0]) if cell.arm == arm)
    config = replace(config, budget=replace(config.budget, samples=2 * config.budget.batch_size))
    data, record = prepare(config.data, config.model.vocab_size), Rows()
    batches = TrainBatches(config, data.train, data.tokenizer)
    train(config, objective(config.objective.name), build(config), batches, attempt=record)
    assert [row["step"] for row in record.rows] == [0, 1, 2]


def test_sentence_names_both_metrics_and_what_would_tell_more(own):
    (sentence,) = announcements(adapted(STUDIES["prefix_ratio"], own))
    assert sentence == (
        "probe_digits takes the place of probe_object, the study's metric on other data; a labelled set of your own"
        " would tell more: evaluation.sets=[FILE.yaml]."
    )
    (sentence,) = announcements(adapted(STUDIES["prefix_ratio"], replaced(own, {"evaluation.sets": (SET,)})))
    assert sentence == "probe_flowers_102 takes the place of probe_object, the study's metric on other data."


def test_nothing_is_said_of_a_metric_that_the_command_line_replaced(own):
    probed = replace(STUDIES["eos"], primary_metric=PROBE)
    study = adapted(probed, own)  # no claim uses the probe
    assert len(announcements(study)) == 1
    typed = replace(study_overrides(study), primary_metric=CONTENT)
    assert announcements(typed.apply(study)) == []


def test_glyphs_have_no_probe_of_objects_either(tiny):
    base = replaced(tiny, {"data.sources": ("openmoji",)})
    probed = replace(STUDIES["caption_order"], primary_metric=PROBE)
    claimed = expect("text_first", "worse", than="image_first", metric=PROBE)
    study = adapted(replace(probed, claims={"image-first-order": claimed}), base)
    (expected,) = study.claims["image-first-order"]
    assert (study.primary_metric, expected.metric, expected.than_metric) == (DIGITS,) * 3


@pytest.mark.parametrize("sets", [(), (SET,)], ids=["no set", "a set"])
def test_captions_of_ones_own_are_read_as_those_of_scenes(own, sets):
    """So the reader needs no metric in its place."""
    study = STUDIES["caption_order"]
    assert adapted(study, replaced(own, {"evaluation.sets": sets})) is study


def weights_of(study, base):
    return {name: arm.change(base).data.weights for name, arm in study.arms.items()}


def test_two_sources_are_compared_with_their_mixture(own):
    study = adapted(STUDIES["data_mix"], own)
    assert study.baseline == "mixture"
    assert weights_of(study, own) == {"mixture": None, "only_birds": (1, 0), "only_small_boats": (0, 1)}
    assert (study.expected, study.claims) == ({}, {}), "the paper says nothing of these sources"


def test_three_sources_are_left_out_one_by_one(tiny):
    base = with_sources(tiny, "a", "b", "c", weights=(2, 1, 5))
    arms = weights_of(adapted(STUDIES["data_mix"], base), base)
    assert arms == {
        "mixture": (2, 1, 5),
        "only_a": (1, 0, 0),
        "only_b": (0, 1, 0),
        "only_c": (0, 0, 1),
        "without_a": (0, 1, 5),
        "without_b": (2, 0, 5),
        "without_c": (2, 1, 0),
    }


def test_sources_keep_their_proportions_by_size_when_one_is_left_out(tiny, tmp_path):
    sources = tuple(own_source(tmp_path, name, num_pairs=size) for name, size in (("a", 60), ("b", 30), ("c", 20)))
    base = replaced(tiny, {"data.sources": sources})
    sizes = [len(part) for part in prepare(base.data, base.model.vocab_size).train.parts.values()]
    without_b = weights_of(adapted(STUDIES["data_mix"], base), base)["without_b"]
    assert without_b == (sizes[0], 0, sizes[2])
    assert sizes[0] > sizes[2] > 0


@pytest.mark.parametrize(
    ("names", "weights", "message"),
    [
        (["a"], None, "this run trains on one, a; name two or more"),
        (["a", "b"], (0, 1), "this run trains on one, b; name two or more"),
        (["a-b", "a_b"], None, "the sources a-b, a_b need names that differ in letters or digits"),
    ],
)
def test_sources_that_cannot_be_compared_are_refused(tiny, names, weights, message):
    with pytest.raises(UsageError) as refused:
        adapted(STUDIES["data_mix"], with_sources(tiny, *names, weights=weights))
    assert message in str(refused.value)


def test_sources_of_the_paper_have_its_mixture_and_the_public_part_as_arms(tiny):
    base = with_sources(tiny, "dfn", "coyo", "hqitp")
    study = adapted(STUDIES["data_mix"], base)
    shown = {  # percent of the samples: short and dense captions, by source
        name: [
            (round(100 * w / sum(run.data.weights) * (1 - d)), round(100 * w / sum(run.data.weights) * d))
            for w, d in zip(run.data.weights, run.data.dense_fractions, strict=True)
        ]
        for name in ("paper", "public")
        for run in [study.arms[name].change(base)]
    }
    assert shown["paper"] == [(30, 30), (9, 0), (28, 3)], "Table 2"
    assert shown["public"] == [(77, 0), (23, 0), (0, 0)], "30 and 9 of 39"
    assert study.claims == {}, "the arms of single sources have other shares of dense captions"


def test_the_papers_mixture_is_the_baseline_if_the_run_has_it(tiny):
    paper = PRESETS["paper"]
    base = with_sources(tiny, "dfn", "coyo", "hqitp", weights=paper.weights, dense_fractions=paper.dense_fractions)
    study = adapted(STUDIES["data_mix"], base)
    assert study.baseline == "paper"
    assert set(study.expected) == {"only_dfn", "only_coyo", "only_hqitp"}
    claimed = {(one.arm, one.relation, one.than_arm) for one in study.claims["data-mix"]}
    assert claimed == {("only_dfn", "worse", "paper"), ("only_coyo", "worse", "paper")}, "the public sources"
    assert len(expand(study, base, seeds=[0])) == len(study.arms) + 3, "no two arms are one run"


def test_shares_of_dense_captions_need_captions_of_both_kinds(tiny, tmp_path):
    both, short = own_source(tmp_path, "both"), own_source(tmp_path, "alt", kinds=("short",))
    study, base = STUDIES["synthetic_fraction"], replaced(tiny, {"data.sources": (both, short)})
    with pytest.raises(UsageError, match="share of dense captions, and alt has short captions only; a description"):
        adapted(study, replaced(tiny, {"data.sources": (short,)}))
    first, second = announcements(adapted(study, base))
    assert first == "alt has short captions only; the shares of dense captions are those of the other sources."
    assert "evaluation.sets=[FILE.yaml] would tell more" in second
    assert "stand in" not in adapted(study, base).source
    own_shares = replaced(base, {"data.dense_fractions": (0.2, 0.1)})
    levels = [arm.change(own_shares).data.dense_share(0) for arm in adapted(study, own_shares).arms.values()]
    assert levels == [0, 0.33, 0.5, 0.67, 1], "shares of the run's own do not hide the levels"


@pytest.mark.parametrize("slug", ["data_mix", "synthetic_fraction"])
def test_request_is_read_after_the_data_are_gone(slug, tiny, tmp_path):
    sources = (own_source(tmp_path, "both"), own_source(tmp_path, "alt", kinds=("short",)))
    base = replaced(tiny, {"data.sources": sources})
    study = adapted(STUDIES[slug], base)
    request = Request(study=study, cells=expand(study, base, seeds=[0]), arguments=(f"sweep={slug}",))
    write_request(tmp_path, request)
    for source in sources:
        Path(source).unlink()
    read = read_request(tmp_path, request.folder, STUDIES)
    assert read.cells == request.cells
    assert {name: arm.label for name, arm in read.study.arms.items()} == {
        name: arm.label for name, arm in study.arms.items()
    }
    same = ("baseline", "primary_metric", "equivalence_margin", "claims", "expected", "notes", "stand_ins")
    assert [getattr(read.study, name) for name in same] == [getattr(study, name) for name in same]
    assert announcements(read.study) == announcements(study)
