import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from aimv2.base.errors import UsageError
from aimv2.config.data_config import DataConfig
from aimv2.data.batches.training import TrainBatches
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.data.transforms import unnormalise
from aimv2.datasets.description import read_source
from aimv2.datasets.open import prepare_location
from aimv2.tools.data.show import cells, pieces, show_command


def word_tokenizer(words, unknown="<unk>"):
    vocab = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {word: number for number, word in enumerate(words, 3)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return CaptionTokenizer(tokenizer)


def test_cells_show_the_batches_of_training(tiny, pairs):
    num_bad, found = cells(tiny, step=1, num=11)
    batches = TrainBatches(tiny, pairs.train, pairs.tokenizer)
    assert num_bad == 0
    assert [cell.place for cell in found] == list(range(8, 19))
    for number, cell in enumerate(found):
        batch, index = batches[1 + number // 8], number % 8
        assert np.array_equal(cell.image, unnormalise(batch.image[index]))
        assert cell.target is None
        assert cell.in_prefix_GG.ravel().tolist() == [patch < batch.prefix_len_B[index] for patch in range(16)]
        tokens = batch.token_BT[index].tolist()
        seen = [piece.text for piece in cell.pieces if not piece.is_truncated]
        assert "".join(seen) == pairs.tokenizer.decode(tokens).replace(" ", "")
        source, side, row = cell.key.rsplit("-", 2)
        assert (f"{source}_scenes", side) == (cell.source, "train")
        scene = pairs.train.parts[cell.source]
        caption = scene.caption(int(row), cell.kind)
        assert [piece.starts_word for piece in cell.pieces].count(True) == len(caption.words)
        assert "".join(piece.text for piece in cell.pieces) == "".join(caption.words)


def test_patches_of_the_prefix_follow_the_reading_order(tiny):
    config = replace(tiny, model=replace(tiny.model, patch_order="spiral"))
    _, found = cells(config, step=0, num=8)
    spiral = [5, 6, 10, 9, 8, 4, 0, 1, 2, 3, 7, 11, 15, 14, 13, 12]
    for cell in found:
        assert set(np.flatnonzero(cell.in_prefix_GG)) == set(spiral[: cell.prefix_len])


def test_shuffled_pixels_show_the_targets(tiny):
    config = replace(tiny, data=replace(tiny.data, pixels="shuffled"))
    _, found = cells(config, step=0, num=3)
    assert all(cell.target is not None and not np.array_equal(cell.target, cell.image) for cell in found)


def test_unknown_and_truncated_tokens_are_marked():
    tokenizer = word_tokenizer(["red", "star"])
    captions = ['"Red" moon, star!', "Star."]  # the tokenizer cleans them
    (first, second) = pieces(tokenizer, captions, tokenizer.encode(captions, 3))
    assert [(piece.text, piece.is_unknown, piece.is_truncated) for piece in first] == [
        ("red", False, False),
        ("moon", True, False),
        ("star", False, True),
    ]
    assert [(piece.text, piece.is_truncated) for piece in second] == [("star", False)]


def test_parts_of_words_are_told_from_words():
    tokenizer = CaptionTokenizer.train(["red star"] * 5, 262)
    (found,) = pieces(tokenizer, ["red stars"], tokenizer.encode(["red stars"], 30))
    assert sum(piece.starts_word for piece in found) == 2
    assert "".join(piece.text for piece in found) == "redstars"
    (found,) = pieces(tokenizer, ["шар"], tokenizer.encode(["шар"], 30))  # two bytes a letter
    assert "".join(piece.text for piece in found) == "ш·а·р·"


@pytest.fixture
def described(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(20):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(tmp_path / "pictures" / f"{number}.png")
        (tmp_path / "pictures" / f"{number}.txt").write_text(f"picture {number}")
    (tmp_path / "pictures" / "broken.png").write_bytes(b"")
    (tmp_path / "pictures" / "broken.txt").write_text("broken")
    path = tmp_path / "mine.yaml"
    path.write_text("folder: pictures\nshort: txt\nheld_out: {fraction: 0.2}\n")
    prepare_location(read_source(path))
    return path


def test_files_show_their_own_kind_of_captions_and_replaced_samples(tiny, described, cache_dir):
    data = DataConfig(sources=(str(described),), cache_dir=cache_dir, render_px=24, dense_fraction=0.9)
    num_bad, found = cells(replace(tiny, data=data), step=0, num=32)
    assert {cell.kind for cell in found} == {"short"}
    assert {cell.source for cell in found} == {"mine"}
    for cell in found:
        number = int(cell.key.removesuffix(".png"))
        assert np.abs(cell.image.astype(int) - (number, 0, 0)).max() <= 1
        assert "".join(piece.text for piece in cell.pieces) == f"picture{number}"
    epochs = {cell.epoch for cell in found}
    assert len(epochs) > 1
    assert (num_bad > 0) == ("broken.png" in _training_keys(described, data))


def _training_keys(path, data):
    from aimv2.datasets.file_pairs import open_pairs
    from aimv2.datasets.open import open_source

    train = open_pairs(open_source(read_source(path)), data).train
    return train.keys(np.arange(len(train)))


def test_the_command_writes_a_picture(tmp_path, cache_dir, capsys):
    to = tmp_path / "new" / "sheet.png"
    keys = ["data.sources=[openmoji_scenes]", f"data.cache_dir={cache_dir}", "budget.batch_size=4", "budget.samples=8"]
    assert show_command([f"to={to}", "num=3", *keys]) == 0
    with Image.open(to) as picture:
        assert picture.format == "PNG"
        assert picture.width > 3 * 200
    assert "3 samples from step 0 on" in capsys.readouterr().out
    assert [path.name for path in to.parent.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["to=a.jpg"], "must end in .png"),
        (["num=0"], "num: .*greater than 0"),
        (["num=401"], "num: .*less than or equal to 400"),
        (["step=-1"], "step: .*greater than or equal to 0"),
        (["objective=clip"], "write objective.name=clip"),
        (["native.areas=[16]", "model.encoder.positions=sincos"], r"squares of one size; type native.areas=\[\]"),
    ],
)
def test_wrong_arguments_give_one_sentence(arguments, sentence):
    with pytest.raises(UsageError, match=sentence):
        show_command(arguments)


def test_the_unknown_token_of_a_unigram_model_is_found():
    model = models.Unigram([("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("red", -1.0)], unk_id=2)
    tokenizer = CaptionTokenizer(Tokenizer(model))
    assert json.loads(tokenizer.to_json())["model"]["unk_id"] == 2
    (found,) = pieces(tokenizer, ["redx"], tokenizer.encode(["redx"], 5))
    assert [(piece.text, piece.is_unknown) for piece in found] == [("red", False), ("x", True)]
