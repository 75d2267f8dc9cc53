import re
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
from aimv2.evaluation.sheet import Word
from aimv2.tools.data.show import divided, show_command, shown

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
        assert np.array_equal(
            picture, np.where(np.repeat(np.repeat(is_seen, 4, 0), 4, 1)[..., None], image, PALE[image])
        )
        ((label, words),) = row.captions.items()
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
    num_bad, found = shown(replace(tiny, data=data), step=0, num=32)
    epochs = set()
    for row in found:
        ((label, words),) = row.captions.items()
        number, epoch = map(int, re.match(r"short, mine (\d+)\.png, epoch (\d+)", label).groups())
        epochs.add(epoch)
        assert np.abs(row.pictures[0][0, 0].astype(int) - (number, 0, 0)).max() <= 1
        assert "".join(word.text.replace("·", "") for word in words) == f"picture{number}"
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
def test_wrong_arguments_give_one_sentence(arguments, sentence):
    with pytest.raises(UsageError, match=sentence):
        show_command(arguments)
