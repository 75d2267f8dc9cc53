import io

import numpy as np
import pytest
from aimv2.base.errors import REASONS, BadSampleError
from aimv2.datasets.description import read_source
from aimv2.datasets.open import prepare_source
from aimv2.tools.data.audit.phash import SIDE
from aimv2.tools.data.audit.recognise import IMAGE_FORMATS, SCRIPTS
from aimv2.tools.data.audit.survey import (
    FACT,
    NO_PROBLEM,
    chosen_rows,
    open_subject,
    read_image,
    survey,
)
from aimv2.tools.data.index import index_command
from PIL import Image

from aimv2.config.data_config import DataConfig
from aimv2.data.tokenizer import CaptionTokenizer


def encoded(picture, name, **options):
    content = io.BytesIO()
    picture.save(content, name, **options)
    return content.getvalue()


@pytest.fixture
def described(tmp_path):
    """Return the description of 12 pairs, of which the first three are bad in different ways."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(12):
        name = f"{number:02d}"
        picture = Image.effect_noise((40 + number, 30), 90).convert("RGB")
        (folder / f"{name}.jpg").write_bytes(encoded(picture, "JPEG"))
        (folder / f"{name}.txt").write_text(f"picture number {number}" if number != 1 else "...")
    (folder / "00.jpg").write_bytes(b"<html>gone</html>")
    (folder / "02.txt").unlink()
    (tmp_path / "mine.yaml").write_text("folder: pictures\nshort: txt\nheld_out: {fraction: 0.4}\n")
    prepare_source(read_source(tmp_path / "mine.yaml"))
    return str(tmp_path / "mine.yaml")


def surveyed(source, config, tokenizer=None, workers=1, num=100):
    subject = open_subject(source, config)
    rows = [[chosen_rows(side.pairs, num) for side in subject.sides]]
    found = list(survey([source], config, tokenizer, rows, workers))
    return subject, [np.concatenate([fact for _, side, fact in found if side == number]) for number in (0, 1)]


def test_facts_are_those_of_the_files(described, tmp_path):
    tokenizer = CaptionTokenizer.train(["picture number 3"], 300)
    subject, sides = surveyed(described, DataConfig(), tokenizer.to_json())
    assert subject.kinds == ("short",)
    facts = {}
    for side, fact_N in zip(subject.sides, sides, strict=True):
        facts |= dict(zip(side.pairs.keys(fact_N["row"]), fact_N, strict=True))
    assert len(facts) == 12
    for key, fact in facts.items():
        number = int(key[:2])
        content = (tmp_path / "pictures" / key).read_bytes()
        assert fact["num_bytes"] == len(content)
        if number == 0:
            assert REASONS[fact["problem"]] == "undecodable image"
            assert IMAGE_FORMATS[fact["format"]] == "HTML"
        else:
            assert fact["problem"] == NO_PROBLEM
            assert (fact["width"], fact["height"], fact["mode"]) == (40 + number, 30, b"RGB")
        problem = fact["caption_problem"][0]
        expected = {1: "empty caption", 2: "missing caption"}.get(number)
        assert (None if problem == NO_PROBLEM else REASONS[problem]) == expected
        if expected is None:
            assert fact["words"][0] == 3
            assert SCRIPTS[fact["script"][0]] == "Latin"
            tokens = tokenizer.encode([f"picture number {number}"], 100)
            assert fact["tokens"][0] == tokenizer.lengths(tokens)[0] - 1
    assert len({int(fact["content"]) for fact in facts.values()}) == 12


def test_processes_find_the_same_facts(described):
    one, two = (surveyed(described, DataConfig(), workers=workers)[1] for workers in (1, 2))
    assert [fact_N.tobytes() for fact_N in one] == [fact_N.tobytes() for fact_N in two]


def test_drawn_pictures_have_facts_too(tiny):
    subject, (fact_N, _) = surveyed("openmoji_scenes", tiny.data, num=20)
    assert subject.kinds == ("short", "dense")
    assert len(np.unique(fact_N["row"])) == 20
    for fact in fact_N:
        row = int(fact["row"])
        texts = [subject.sides[0].pairs.caption(row, kind) for kind in ("short", "dense")]
        assert fact["words"].tolist() == [len(text.words) for text in texts]
        assert (fact["width"], fact["height"], fact["num_bytes"]) == (24, 24, 0)


def test_a_sample_of_rows_is_without_repetition_and_over_all_rows(tiny):
    pairs = open_subject("openmoji_scenes", tiny.data).sides[0].pairs
    row_N = chosen_rows(pairs, 100)
    assert len(set(row_N.tolist())) == 100
    assert row_N.tolist() == sorted(row_N.tolist())
    assert 120 < row_N.mean() < 280  # of 400
    assert chosen_rows(pairs, 400).tolist() == list(range(400))


def test_splits_of_a_labelled_set_are_its_sides(described, tmp_path):
    path = tmp_path / "labelled.yaml"
    path.write_text("train: {folder: pictures}\ntest: {folder: pictures}\nlabel: folder\ncaptions: txt\n")
    assert index_command([str(path)]) == 0
    subject = open_subject(str(path), DataConfig())
    assert [(side.name, len(side.pairs)) for side in subject.sides] == [("train", 12), ("test", 12)]
    assert subject.kinds == ("short",)
    assert subject.sides[1].pairs.caption(3, "short").text == "picture number 3"


def test_an_image_over_the_limit_is_a_bad_sample():
    fact = np.zeros(1, FACT)[0]
    with pytest.raises(BadSampleError, match="pixel limit"):
        read_image(encoded(Image.new("RGB", (40, 40)), "PNG"), fact, max_pixels=1000)
    assert IMAGE_FORMATS[fact["format"]] == "PNG"


def test_images_are_read_upright_and_small():
    picture = Image.effect_noise((64, 64), 90).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 3
    content = encoded(picture.rotate(180), "PNG", exif=exif)
    small = read_image(content, np.zeros(1, FACT)[0], 10**6)
    expected = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    assert np.abs(small.astype(int) - expected).max() <= 1
