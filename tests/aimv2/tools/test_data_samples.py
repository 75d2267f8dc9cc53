import json
import re
from dataclasses import replace

import numpy as np
import pytest
import webdataset as wds
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from aimv2.base.errors import UsageError
from aimv2.config.data_config import DataConfig
from aimv2.data.batches.training import TrainBatches
from aimv2.data.prepare import open_source as open_any
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.data.transforms import unnormalise
from aimv2.datasets.description import read_source
from aimv2.datasets.open import open_records, open_source, prepare_location
from aimv2.tools.data_samples import SourceSide, divided, show_command, shown, sides_of, write, write_command
from aimv2.tools.sheet import Word
from tests.helpers.own_data import COLOURS, pictured_source

SOURCE = "openmoji_scenes"


def read(folder):
    """Return all samples as webdataset reads them, undecoded."""
    shards = sorted(str(path) for path in folder.glob("*.tar"))
    return list(wds.WebDataset(shards, shardshuffle=False, empty_check=False))


@pytest.fixture
def sides(tiny):
    return sides_of(SOURCE, tiny.data)


@pytest.fixture
def picture_folder(tmp_path):
    """Return the description of a folder with images of all formats and their captions in a table."""
    folder = tmp_path / "pictures"
    (folder / "sub.dir").mkdir(parents=True)
    rows = ["image\ttext\tlong\tscore"]
    for number, extension in enumerate(["jpg", "png", "webp"] * 4):
        name = f"sub.dir/pic.{number}.{extension}"
        Image.effect_noise((30 + number, 20), 80).convert("RGB").save(folder / name)
        rows.append(f"{name}\tшорт {number}\ta longer text {number}\t{number / 10}")
    (folder / "notes.jpg").write_text("this is no image")
    rows.append("notes.jpg\tbroken\tbroken\t0.9")
    rows.append("gone.jpg\tgone\tgone\t0.9")
    (tmp_path / "table.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "mine.yaml").write_text(
        "folder: pictures\ntable: table.tsv\nshort: {text: 3, long: 1}\ndense: long\nlicence: CC0\n"
        "filters: {score: {min: 0.15}}\nheld_out: {fraction: 0.3}\ntransforms: {flip_probability: 0}\n"
    )
    prepare_location(read_source(tmp_path / "mine.yaml"))
    return tmp_path / "mine.yaml"


def test_webdataset_decodes_the_scenes_that_are_written(sides, tmp_path):
    written = write(tmp_path / "shards", sides, 25, 10)
    shards = sorted(str(path) for path in (tmp_path / "shards").glob("*.tar"))
    samples = list(wds.WebDataset(shards, shardshuffle=False).decode("rgb8"))
    assert written.num_shards == len(shards) == 3
    assert [sample["__key__"] for sample in samples] == [f"{number:09d}" for number in range(25)]
    pairs = {part.side: part.pairs for part in sides}
    for sample in samples:
        values = sample["json"]
        row, part = int(values["key"].rpartition("-")[2]), pairs[values["side"]]
        np.testing.assert_array_equal(sample["png"], part.picture(row))
        assert sample["txt"] == values["short"] == part.caption(row, "short").text
        assert values["dense"] == part.caption(row, "dense").text


def test_all_pairs_are_written_once_and_in_random_order(tiny, tmp_path):
    train = open_any(SOURCE, tiny.data).train
    write(tmp_path / "shards", [SourceSide(SOURCE, "train", train, None)], len(train), 1000)
    rows = [int(json.loads(sample["json"])["key"].rpartition("-")[2]) for sample in read(tmp_path / "shards")]
    assert sorted(rows) == list(range(len(train)))
    assert np.abs(np.corrcoef(rows, range(len(rows)))[0, 1]) < 0.2


def test_training_reads_what_is_written_with_the_same_sides(tiny, sides, tmp_path):
    folder = tmp_path / "100%"
    write(folder, sides, 60, 7)
    described = read_source(folder / f"{folder.name}.yaml")
    assert described.licence == "OpenMoji (CC BY-SA 4.0)"
    prepare_location(described)
    records, selected = open_records(described)
    by_key = {sample["__key__"]: sample for sample in read(folder)}
    assert len(records) == len(by_key) == 60
    for row in range(60):
        sample = by_key[records.key(row)]
        assert records.image(row) == sample["png"]
        assert records.field(row, "txt") == sample["txt"].decode()
        assert records.field(row, "json.dense") == json.loads(sample["json"])["dense"]
    assert [len(part.pairs) for part in sides] == [400, 100]  # data.held_out_fraction is 0.2
    held_out = {row for row in range(60) if records.field(row, "json.side") == "held_out"}
    assert set(selected.held_out_M.tolist()) == held_out
    assert 0 < len(held_out) < 30
    path = str(folder / f"{folder.name}.yaml")
    augment = open_source(path, tiny.data).train.augment(0, tiny.augment)
    assert (augment.min_scale, augment.flip_probability) == (0.9, 0.0)


def test_files_keep_their_bytes_fields_and_sides(tmp_path, picture_folder, capsys):
    to = tmp_path / "out"
    assert write_command([f"to={to}", f"data.sources=[{picture_folder}]", "pairs_per_shard=4"]) == 0
    printed = capsys.readouterr().out
    assert "undecodable image: 1" in printed
    assert "missing image: 1" in printed
    names = [f"sub.dir/pic.{number}.{end}" for number, end in enumerate(["jpg", "png", "webp"] * 4) if number >= 2]
    original = {name: (tmp_path / "pictures" / name).read_bytes() for name in names}
    samples = read(to)
    assert {json.loads(sample["json"])["key"] for sample in samples} == set(original)
    for sample in samples:
        values = json.loads(sample["json"])
        extension = values["key"].rpartition(".")[2]
        number = values["key"].split(".")[2]
        assert sample[extension] == original[values["key"]]
        assert sample["txt"].decode() == f"шорт {number}"
        assert values["short"] == [f"шорт {number}", f"a longer text {number}"]
        assert values["dense"] == f"a longer text {number}"
    before, after = read_source(picture_folder), read_source(to / f"{to.name}.yaml")
    assert (after.short, after.dense) == ({"json.short": 1}, {"json.dense": 1})
    assert (after.licence, after.transforms) == (before.licence, before.transforms)
    prepare_location(after)
    (records, selected), (originals, earlier) = open_records(after), open_records(before)
    held_out = {originals.key(int(earlier.kept_N[index])) for index in earlier.held_out_M}
    now = {records.field(int(row), "json.key") for row in selected.held_out_M}
    assert now == held_out & set(original)
    by_key = {sample["__key__"]: sample for sample in samples}
    for row in range(len(records)):  # our reader and webdataset read the same bytes of every member
        sample = by_key[records.key(row)]
        image = next(sample[extension] for extension in ("jpg", "png", "webp") if extension in sample)
        assert records.image(row) == image
        assert records.field(row, "txt") == sample["txt"].decode()
        assert records.field(row, "json") == sample["json"].decode()


def test_equal_requests_make_equal_files(sides, tmp_path):
    folders = [tmp_path / number / "pairs" for number in ("1", "2")]
    for folder in folders:
        write(folder, sides, 12, 10)
    files = [sorted((path.name, path.read_bytes()) for path in folder.iterdir()) for folder in folders]
    assert files[0] == files[1]


def test_a_full_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(UsageError, match="not an empty"):
        write_command([f"to={tmp_path}", "num=1"])
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_an_error_leaves_nothing_behind(tmp_path):
    class Broken:
        concurrency = 1

        def __len__(self):
            return 5

        def keys(self, rows):
            return ["a"]

        def picture(self, row):
            raise OSError(5, "Input/output error")

    with pytest.raises(UsageError, match="Input/output error"):
        write(tmp_path / "shards", [SourceSide(SOURCE, "train", Broken(), None)], 5, 10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["num=3"], "needs to=FOLDER"),
        (["to={to}", "num=0"], "num: .*greater than 0"),
        (["to={to}", "data.sources=[openmoji_scenes]", "num=2000000"], "more than the 1,100,000 pairs"),
        (["to={to}", "data.sources=[{mine},b.yaml]"], "one description at a time"),
    ],
)
def test_wrong_arguments_give_one_sentence(tmp_path, picture_folder, arguments, sentence):
    given = [text.format(to=tmp_path / "to", mine=picture_folder) for text in arguments]
    with pytest.raises(UsageError, match=sentence):
        write_command(given)
    assert not (tmp_path / "to").exists()


def test_a_source_without_a_usable_pair_is_refused(tmp_path):
    path = pictured_source(tmp_path / "mine", 8)
    for number in range(8):
        (tmp_path / f"mine/{number:02}.png").write_bytes(b"no image")
    prepare_location(read_source(path))
    with pytest.raises(UsageError, match=r"no pair can be written \(undecodable image 8\)"):
        write_command([f"to={tmp_path / 'to'}", f"data.sources=[{path}]"])
    assert not (tmp_path / "to").exists()


PALE = np.array([255 - (255 - level) // 3 for level in range(256)], dtype=np.uint8)


def test_rows_show_the_batches_of_training(tiny, pairs):
    num_bad, found = shown(tiny, step=1, num=11)
    batches = TrainBatches(tiny, pairs.train, pairs.tokenizer)
    assert num_bad == 0
    assert len(found) == 11
    for number, row in enumerate(found):
        batch, index = batches[1 + number // 8], number % 8
        (picture,), image = row.pictures, unnormalise(batch.image[index])
        is_seen = np.array([patch < batch.prefix_len_B[index] for patch in range(16)]).reshape(4, 4)
        is_seen_pixel = np.repeat(np.repeat(is_seen, 4, 0), 4, 1)[..., None]
        assert np.array_equal(picture, np.where(is_seen_pixel, image, PALE[image]))
        label, words = row.label, row.words
        assert f"prefix {batch.prefix_len_B[index]} of 16" in label
        text = pairs.tokenizer.decode(batch.token_BT[index].tolist())
        assert "".join(word.text.replace("·", "") for word in words if word.is_right) == text.replace(" ", "")
        kind, key = re.match(r"(\w+), \w+ (\S+),", label).groups()
        source, _, place = key.rsplit("-", 2)
        caption = pairs.train.parts[f"{source}_scenes"].caption(int(place), kind)
        assert len(words) == len(caption.words)


def test_patches_of_the_prefix_follow_the_reading_order(tiny, pairs):
    config = replace(tiny, model=replace(tiny.model, patch_order="spiral"))
    _, found = shown(config, step=0, num=8)
    batch = TrainBatches(config, *(getattr(pairs, name) for name in ("train", "tokenizer")))[0]
    spiral = [5, 6, 10, 9, 8, 4, 0, 1, 2, 3, 7, 11, 15, 14, 13, 12]
    for index, row in enumerate(found):
        is_same = (row.pictures[0] == unnormalise(batch.image[index])).all(axis=2)
        is_same_GG = is_same.reshape(4, 4, 4, 4).all(axis=(1, 3))
        assert is_same_GG.ravel()[spiral[: batch.prefix_len_B[index]]].all()


def test_shuffled_pixels_show_the_targets(tiny):
    config = replace(tiny, data=replace(tiny.data, pixels="shuffled"))
    _, found = shown(config, step=0, num=3)
    assert all(not np.array_equal(*row.pictures) for row in found)


def test_unknown_and_truncated_words_are_marked():
    vocab = {"<pad>": 0, "</s>": 1, "<unk>": 2, "red": 3, "star": 4}
    raw = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.add_special_tokens(["<unk>"])
    tokenizer = CaptionTokenizer(raw)
    captions = ['"Red" moon, star!', "Star."]  # the tokenizer cleans them
    first, second = (divided(tokenizer, caption, tokenizer.encode([caption], 3)[0]) for caption in captions)
    assert first == [Word("red", True), Word("?", True), Word("star", False)]
    assert second == [Word("star", True)]


def test_words_are_divided_into_tokens():
    tokenizer = CaptionTokenizer.train(["red star"] * 5, 262)
    first, second = divided(tokenizer, "red stars", tokenizer.encode(["red stars"], 30)[0])
    assert "·" in second.text
    assert (first.text + second.text).replace("·", "") == "redstars"


def test_files_show_their_own_kind_of_captions_and_replaced_samples(tiny, tmp_path, cache_dir):
    path = pictured_source(tmp_path / "mine", 20, bad={7: "image"})
    data = DataConfig(sources=(str(path),), cache_dir=cache_dir, render_px=24, dense_fraction=0.9)
    num_bad, found = shown(replace(tiny, data=data), step=0, num=32)
    epochs = set()
    for row in found:
        label, words = row.label, row.words
        number, epoch = map(int, re.match(r"short, mine (\d+)\.png, epoch (\d+)", label).groups())
        epochs.add(epoch)
        colour = number % len(COLOURS)
        shown_rgb = 200 * (np.eye(3, dtype=int)[colour] if colour < 3 else 1)
        assert np.abs(row.pictures[0][0, 0] - shown_rgb).max() <= 1
        assert "".join(word.text.replace("·", "") for word in words) == f"apictureof{COLOURS[colour]}number{number}"
        assert number != 7
    assert len(epochs) > 1
    assert num_bad > 0


def test_the_command_writes_a_picture(tmp_path, cache_dir, capsys):
    to = tmp_path / "new" / "sheet.png"
    keys = ["data.sources=[openmoji_scenes]", f"data.cache_dir={cache_dir}", "budget.batch_size=4", "budget.samples=8"]
    assert show_command([f"to={to}", "num=3", *keys]) == 0
    with Image.open(to) as picture:
        assert picture.format == "PNG"
        assert picture.height > 3 * 100
    assert "3 samples from step 0 on" in capsys.readouterr().out
    assert [path.name for path in to.parent.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["to=a.jpg"], "must end in .png"),
        (["num=0"], "num: .*greater than 0"),
        (["num=101"], "num: .*less than or equal to 100"),
        (["step=-1"], "step: .*greater than or equal to 0"),
        (["objective=clip"], "write objective.name=clip"),
        (["native.areas=[16]", "model.encoder.positions=sincos"], r"squares of one size; type native.areas=\[\]"),
    ],
)
def test_wrong_arguments_of_a_sheet_give_one_sentence(arguments, sentence):
    with pytest.raises(UsageError, match=sentence):
        show_command(arguments)
