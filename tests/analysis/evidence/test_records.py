import contextlib
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.expand import expand
from aimv2.ablations.ladder import COMMITTED
from aimv2.ablations.recorded_runs import FILE, recorded_names
from aimv2.ablations.request import Request
from aimv2.analysis.evidence.records import (
    KEY,
    TABLES,
    Records,
    compared_metrics,
    join,
    pack,
    packed_records,
    read_records,
    unpack,
    without_places,
)
from aimv2.analysis.evidence.run_files import load
from aimv2.analysis.evidence.tables import MIXTURE_COLUMNS
from aimv2.analysis.inference.looks import Look
from aimv2.analysis.judgement.differences import Differences
from aimv2.analysis.judgement.withheld import mixed_code
from aimv2.base.errors import UsageError
from aimv2.config.program import replaced
from aimv2.runs.failure import Failure
from aimv2.runs.record import RunFolder
from tests.helpers.evidence import write_run
from tests.helpers.searches import parsed, request_of_search, typical, write_confirmation
from tests.helpers.specimen import STUDY

SOME = min(COMMITTED.glob(f"*/{FILE}"), key=lambda path: path.stat().st_size)
LOOK = Look(2, 4, ((0, 1), (0, 1, 2)))
SHOWN = {"samples": 9, "dense": 4, "epochs": 0.1, "bad": {}}


@pytest.fixture(scope="module")
def records(cells, tmp_path_factory):
    """Runs with everything that a run can have, one that failed and one that is not there."""
    folder, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    for cell in cells[:-2]:
        items = [
            (metric, item, rng.normal(3, 1), 1.0 + item % 3)
            for metric in ("content_loss", "causal_content_loss", "probe_digits")
            for item in range(7 if cell.arm != "fixed_25" else 6)
        ]
        mixture = {"scenes": SHOWN, "glyphs": SHOWN | {"bad": {"decode": 2}}}
        write_run(cell, folder, 1 / 3 + rng.normal(), items=items, mixture=mixture, caption=f"{cell.arm} “é”")
    with RunFolder(folder, cells[-2].name).acquire(cells[-2].config) as attempt:
        attempt.fail(Failure("not finite", "text_loss is nan at step 7"), "")
    request = Request(study=STUDY, cells=cells, arguments=("sweep=prefix_ratio", "a=é"))
    return Records(request, replace(load(cells, folder), credits={"sources": ["birds (CC0)"], "sets": []}), LOOK)


def test_everything_comes_back(records):
    again = unpack(pack(records), STUDIES)
    assert again.look == LOOK
    assert again.request.cells == records.request.cells
    assert again.request.arguments == records.request.arguments
    assert again.request.study.claims == STUDY.claims
    for name in ("runs", "missing", *TABLES):
        table, expected = getattr(again.evidence, name), getattr(records.evidence, name)
        assert len(expected), name
        pd.testing.assert_frame_equal(table, expected, check_exact=True, obj=name)
    bill = records.evidence.bill
    assert {"result", "failed"} <= set(bill["outcome"])
    pd.testing.assert_frame_equal(again.evidence.bill, bill, atol=1e-6, check_dtype=False)
    assert again.evidence.examples == records.evidence.examples
    assert again.evidence.credits == records.evidence.credits == {"sources": ["birds (CC0)"], "sets": []}


def test_differences_cover_the_same_items(records):
    again = unpack(pack(records), STUDIES)
    before, after = (one.evidence.items.of_sum for one in (records, again))
    pairs = [("causal", "content_loss", "uniform", "content_loss")]
    pairs += [(arm, "content_loss", arm, "causal_content_loss") for arm in ("causal", "fixed_25")]
    for pair in pairs:
        parts = [(*pair[:2], 1.0), (*pair[2:], -1.0)]
        (covariance, num_items), (expected, expected_items) = after(parts), before(parts)
        assert covariance.shape == (4, 4)
        np.testing.assert_array_equal(covariance, expected)
        assert num_items == expected_items == (6 if "fixed_25" in pair else 7)
    others = [("fixed_25", "content_loss", 1.0), ("uniform", "content_loss", -1.0)]
    assert after(others)[1] == 0, "they have other items"
    differences = [Differences(STUDY, one.evidence).of(*pairs[0]) for one in (records, again)]
    assert differences[0] == differences[1]
    assert differences[0].covers == "seeds and items"


def test_items_are_kept_for_metrics_that_decide(records):
    known = unpack(pack(records), STUDIES).evidence.items.known
    pairs = [("content_loss", "content_loss"), ("causal_content_loss", "causal_content_loss")]
    assert list(known) == [*pairs, ("content_loss", "causal_content_loss")]
    every = replace(STUDIES["sensitivity"], claims={})
    assert ("probe_digits", "probe_digits") in compared_metrics(every, records.evidence)


def test_same_records_are_the_same_bytes_with_images_of_all_arms_once(records):
    packed = pack(records)
    assert pack(records) == packed
    assert pack(unpack(packed, STUDIES)) == packed
    (image,) = json.loads(pq.ParquetFile(pa.BufferReader(packed)).metadata.metadata[KEY])["images"]
    assert packed.count(image.encode()) == 1
    assert len(records.evidence.examples) > 2


def test_any_reader_of_parquet_sees_a_row_per_run(records, tmp_path):
    (tmp_path / FILE).write_bytes(pack(records))
    table = pd.read_parquet(tmp_path / FILE)
    assert len(table) == len(records.request.cells)
    losses = {one["metric"]: one["value"] for one in table.loc[0, "metrics"]}
    assert losses["content_loss"] == records.evidence.value("content_loss", "uniform")[0]


def test_sweep_without_a_result_has_records(cells, tmp_path):
    request = Request(study=STUDY, cells=cells, arguments=())
    again = unpack(pack(Records(request, load(cells, tmp_path), Look(1, 16))), STUDIES)
    assert len(again.evidence.missing) == len(cells)
    assert all(getattr(again.evidence, name).empty for name in ("runs", *TABLES))
    assert list(again.evidence.mixture) == MIXTURE_COLUMNS


@pytest.fixture(scope="module")
def of_search(tiny, tmp_path_factory):
    request, folder = request_of_search(tiny), tmp_path_factory.mktemp("confirmed")
    write_confirmation(request, folder)
    return Records(request, load(request.cells, folder), Look(1, 16), parsed(typical()))


def test_search_comes_back_with_its_confirmation(of_search):
    again = unpack(pack(of_search), STUDIES)
    assert again.search == of_search.search
    assert again.request.study.is_search
    assert again.request.cells == of_search.request.cells
    assert pack(again) == pack(of_search)


def test_records_are_found_beside_reports(records, tmp_path):
    (tmp_path / "prefix_ratio").mkdir()
    (tmp_path / "verify").mkdir()
    path = tmp_path / "prefix_ratio" / FILE
    path.write_bytes(pack(records))
    assert recorded_names(tmp_path) == ["prefix_ratio"]
    assert packed_records(path) == path.read_bytes()
    assert read_records(path, STUDIES).look == LOOK
    with pytest.raises(UsageError, match=r"verify/records.parquet cannot be read: No such file"):
        packed_records(tmp_path / "verify" / FILE)


def parquet_of(table, **options):
    pq.write_table(table, sink := pa.BufferOutputStream(), **options)
    return bytes(sink.getvalue())


def changed(packed, change):
    """Return a file whose description or rows were changed by hand."""
    file = pq.ParquetFile(pa.BufferReader(packed))
    table, about = file.read(), json.loads(file.metadata.metadata[KEY])
    table = change(about, table) or table
    return parquet_of(table.replace_schema_metadata({KEY: json.dumps(about)}))


def renamed(about, table):
    """Give a run a name that is not the hash of its config."""
    names = ["v2-0123456789ab", *table["run"].to_pylist()[1:]]
    return table.set_column(table.column_names.index("run"), "run", pa.array(names))


def as_text(column):
    """Give a column values of another kind."""
    return lambda about, table: table.set_column(
        table.column_names.index(column), column, pa.array(["x"] * len(table), pa.string())
    )


def metric_twice(about, table):
    rows = [[*metrics, metrics[0]] if metrics else metrics for metrics in table["metrics"].to_pylist()]
    column = pa.array(rows, table.schema.field("metrics").type)
    return table.set_column(table.column_names.index("metrics"), "metrics", column)


def metric_as_text(about, table):
    rows = [[{"metric": "a", "value": "b"}]] * len(table)
    return table.set_column(table.column_names.index("metrics"), "metrics", pa.array(rows))


def outside(about, table):
    for config in about["request"]["configs"].values():
        config["scale"] = "../../x"


OF_SEARCHES = {
    (lambda about, table: about.pop("search") and None): "x is not a file of records",
    (lambda about, table: about["search"].update(study="loss_weight")): "x is not a file of records",
    (lambda about, table: about["search"].update(version=2)): "x is a search of version 2",
    (lambda about, table: about["request"]["sweep"].pop("is_search") and None): "x is not a file of records",
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about, table: about.update(version=2), "x has records of version 2, and this code reads 1"),
        (lambda about, table: about.update(look=None), "x is not a file of records"),
        (lambda about, table: about.pop("credits") and None, "x is not a file of records"),
        (lambda about, table: about.update(credits={"sources": []}), "x is not a file of records"),
        (lambda about, table: about.update(images=[]), "x is not a file of records"),
        (lambda about, table: about.update(images=["<svg>"]), "x is not a file of records"),
        (lambda about, table: table.slice(1), "x is not a file of records"),
        (renamed, "x is not a file of records"),
        (lambda about, table: table.drop_columns(["reason"]), "x is not a file of records"),
        (lambda about, table: about["request"]["sweep"].update(slug="x"), "x is not the record of a launch"),
        (outside, "x is not a file of records"),
        (lambda about, table: about["look"].update(number=float("inf")), "x is not a file of records"),
        (lambda about, table: about["look"].update(number=5000), "x is not a file of records"),
        (lambda about, table: about["look"].update(number=-5), "x is not a file of records"),
        (as_text("seconds"), "x: 'seconds': no column of records, or of another kind"),
        (metric_as_text, "x: 'metrics': no column of records, or of another kind"),
        (metric_twice, "x is not a file of records"),
        (lambda about, table: table.drop_columns(["metrics"]), "x lacks columns of records: metrics"),
        (lambda about, table: table.drop_columns(["code"]), "x lacks columns of records: code"),
        *OF_SEARCHES.items(),
    ],
)
def test_changed_files_are_refused(records, of_search, change, message):
    with pytest.raises(UsageError, match=message):
        unpack(changed(pack(of_search if change in OF_SEARCHES else records), change), STUDIES, "x")


def test_other_files_and_those_that_are_too_large_are_refused(records):
    packed = pack(records)
    deep = pq.read_table(pa.BufferReader(packed)).replace_schema_metadata({KEY: "[" * 100_000 + "]" * 100_000})
    others = (parquet_of(pa.table({"a": [1]})), parquet_of(deep))
    for content in (b"", b"broken", packed[:-9], packed[:100] + packed[200:], *others):
        with pytest.raises(UsageError, match=r"records.parquet is not a file of records; write the report again"):
            unpack(content, STUDIES)
    with pytest.raises(UsageError, match="x is too large for records: at most 100,000 runs"):
        unpack(parquet_of(pa.table({"run": pa.array(["a"] * 100_001)})), STUDIES, "x")
    # A long text that stands in every row takes its bytes once.
    texts = pa.table({"run": pa.array(["a" * 10**6] * 3000).dictionary_encode()})
    small = parquet_of(texts, compression="zstd")
    assert len(small) < 10**6
    with pytest.raises(UsageError, match=r"x is too large for records: .* and 2,147,483,648 bytes are read"):
        unpack(small, STUDIES, "x")


@pytest.mark.parametrize(
    "text", ["<script>1</script>", "a | b", "`a`", "[a](javascript:b)", "[a]: b", "a\nb", "\x1b[31m"]
)
def test_markup_in_what_pages_show_is_refused(records, text):
    def noted(about, table):
        about["request"]["adapted"]["notes"] = [text]

    with pytest.raises(UsageError, match="is not plain text, and would be shown as markup"):
        unpack(changed(pack(records), noted), STUDIES, "x")


def test_labels_of_known_arms_are_those_of_the_catalogue(records):
    def labelled(about, table):
        about["request"]["adapted"]["arms"]["causal"] = "better than all <b>"

    study = unpack(changed(pack(records), labelled), STUDIES, "x").request.study
    assert study.label("causal") == STUDIES["prefix_ratio"].label("causal")


@given(place=st.integers(0, 10**6), value=st.integers(0, 255))
@settings(max_examples=50)
def test_a_broken_byte_is_refused_or_read(place, value):
    content = bytearray(SOME.read_bytes())
    content[place % len(content)] = value
    with contextlib.suppress(UsageError):
        unpack(bytes(content), STUDIES)


@pytest.fixture
def records_of(request_of, runs_dir):
    """A function that returns the records of a launch of some cells."""

    def of(cells, runs_dir=runs_dir):
        request = replace(request_of, cells=list(cells))
        return unpack(pack(Records(request, load(request.cells, runs_dir), Look(1, 16))), STUDIES)

    return of


def with_seeds(cells, *seeds):
    return [cell for cell in cells if cell.seed in seeds]


def names(records):
    return sorted(cell.name for cell in records.request.cells)


def test_two_launches_of_other_seeds_are_one_study(records_of, cells):
    found = join(records_of(with_seeds(cells, 0, 1)), records_of(with_seeds(cells, 2, 3)))
    whole = records_of(cells)
    assert found.look == Look(2, 4, ((0, 1),))
    assert names(found) == names(whole)
    for name in ("runs", *TABLES):
        tables = (getattr(one.evidence, name).sort_values(["arm", "seed"], kind="stable") for one in (found, whole))
        first, second = (table.reset_index(drop=True) for table in tables)
        pd.testing.assert_frame_equal(first, second[first.columns], check_dtype=False)
    assert names(unpack(pack(found), STUDIES)) == names(found)


def test_a_run_of_both_launches_counts_once(records_of, cells):
    again = [cell for cell in cells if cell.arm in ("uniform", "null_control")]
    found = join(records_of(cells), records_of(again))
    assert len(found.evidence.runs) == len(found.request.cells) == len(set(names(found)))


def test_an_arm_that_was_defined_otherwise_does_not_count(records_of, cells, tiny, tmp_path):
    base = with_seeds(cells, 0, 1)
    other = [
        replace(cell, config=replaced(cell.config, {"optimizer.peak_lr": 1e-5})) if cell.arm == "causal" else cell
        for cell in with_seeds(cells, 2, 3)
    ]
    for cell in other:
        write_run(cell, tmp_path, 3.0)
    found = join(records_of(base), records_of(other, tmp_path))
    seeds = {arm: set(table["seed"]) for arm, table in found.evidence.runs.groupby("arm")}
    assert (seeds["causal"], seeds["uniform"]) == ({2, 3}, {0, 1, 2, 3})


def test_an_untrained_encoder_keeps_its_runs_under_another_name(tiny, tmp_path):
    study, base = STUDIES["scaling"], replaced(tiny, {"budget.samples": 64})
    baseline, half, whole = study.baseline, "size_200_samples_050", "size_200_samples_100"
    launches = []
    for arms, seed in (((baseline, half, whole), 0), ((baseline, whole), 1)):
        cells = expand(study, base, arms=arms, seeds=[seed])
        for cell in cells:
            write_run(cell, tmp_path, 3.0)
        request = Request(study=study, cells=cells, arguments=())
        launches.append(unpack(pack(Records(request, load(cells, tmp_path), Look(1, 16))), STUDIES))
    runs = join(*launches).evidence.runs
    untrained = runs[runs["arm"].str.startswith("untrained_")]
    assert sorted(zip(untrained["arm"], untrained["seed"], strict=True)) == [
        (f"untrained_{whole}", 0),
        (f"untrained_{whole}", 1),
    ]


@pytest.mark.parametrize(("codes", "is_mixed"), [(["a", "a", "b", "b"], False), (["a", "b", "b", "a"], True)])
def test_other_code_mixes_only_within_a_seed(records_of, cells, tmp_path, codes, is_mixed):
    """In the second case the baseline's run of a seed has other code than the rest of the seed."""
    for cell in cells:
        own = codes[cell.seed] if not is_mixed or cell.arm != STUDY.baseline else "c"
        write_run(cell, tmp_path, 3.0, code=own * 12)
    earlier, later = (records_of(with_seeds(cells, *seeds), tmp_path) for seeds in ((0, 1), (2, 3)))
    found = join(earlier, later)
    assert bool(mixed_code(found.request.study, found.evidence)) == is_mixed


def test_a_record_has_no_place_of_this_machine(request_of, cache_dir):
    elsewhere = replace(request_of, arguments=("sweep=eos", f"data.cache_dir={cache_dir}", "runs_dir=/scratch/runs"))
    found = without_places(elsewhere)
    assert found.arguments == ("sweep=eos",)
    assert {cell.config.data.cache_dir for cell in request_of.cells} == {cache_dir}, "it has one before"
    assert {cell.config.data.cache_dir for cell in found.cells} == {"cache"}
    assert [cell.name for cell in found.cells] == [cell.name for cell in request_of.cells], "the same runs"
    cell = request_of.cells[0]
    start = replace(cell.config.start, weights="/scratch/runs/v2-0123", fingerprint="v2-0123")
    started = replace(cell, config=replace(cell.config, start=start))
    (found,) = without_places(replace(request_of, cells=(started,))).cells
    assert found.config.start.weights == "v2-0123"
    assert found.name == started.name
