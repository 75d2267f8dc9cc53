import io

import polars as pl
import pytest
from PIL import Image

from aimv2.config.data_config import DataConfig
from aimv2.data.tokenizer import CaptionTokenizer
from aimv2.datasets.description import read_source
from aimv2.datasets.open import prepare_location
from aimv2.tools.data.audit.survey import SCHEMA, chosen_rows, image_facts, script, sides_of, survey
from aimv2.tools.data.index import index_command


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
    prepare_location(read_source(tmp_path / "mine.yaml"))
    return str(tmp_path / "mine.yaml")


def surveyed(source, config, tokenizer=None, workers=1, num=100):
    sides = sides_of(source, config)
    return sides, pl.concat(survey([source], sides, config, tokenizer, num, workers))


def test_facts_are_those_of_the_files(described, tmp_path):
    tokenizer = CaptionTokenizer.train(["picture number 3"], 300)
    sides, fact_N = surveyed(described, DataConfig(), tokenizer.to_json())
    assert fact_N.schema == SCHEMA
    assert {side.kinds for side in sides} == {("short",)}
    facts = {sides[fact["side"]].key(fact["row"]): fact for fact in fact_N.iter_rows(named=True)}
    assert len(facts) == 12
    for key, fact in facts.items():
        number = int(key[:2])
        assert fact["bytes"] == (tmp_path / "pictures" / key).stat().st_size
        if number == 0:
            assert (fact["problem"], fact["format"]) == ("undecodable image", "HTML")
        else:
            assert (fact["problem"], fact["format"]) == (None, "JPEG")
            assert (fact["width"], fact["height"], fact["mode"]) == (40 + number, 30, "RGB")
        assert fact["short problem"] == {1: "empty caption", 2: "missing caption"}.get(number)
        if fact["short problem"] is None:
            assert (fact["short words"], fact["short script"]) == (3, "Latin")
            tokens = tokenizer.encode([f"picture number {number}"], 100)
            assert fact["short tokens"] == tokenizer.lengths(tokens)[0] - 1


@pytest.mark.exhaustive
def test_processes_find_the_same(described):
    one, two = (surveyed(described, DataConfig(), workers=workers)[1] for workers in (1, 2))
    assert one.equals(two)


def test_drawn_pictures_have_facts_too(tiny):
    sides, fact_N = surveyed("openmoji_scenes", tiny.data, num=20)
    fact_N = fact_N.filter(pl.col("side") == 0)
    assert fact_N["row"].n_unique() == len(fact_N) == 20
    for fact in fact_N.iter_rows(named=True):
        texts = [sides[0].pairs.caption(fact["row"], kind) for kind in ("short", "dense")]
        assert [fact["short words"], fact["dense words"]] == [len(text.words) for text in texts]
        assert (fact["width"], fact["height"], fact["bytes"], fact["format"]) == (24, 24, None, "drawn")


def test_a_sample_of_rows_is_without_repetition_and_over_all_rows(tiny):
    pairs = sides_of("openmoji_scenes", tiny.data)[0].pairs
    row_N = chosen_rows(pairs, 100)
    assert len(set(row_N.tolist())) == 100
    assert row_N.tolist() == sorted(row_N.tolist())
    assert 120 < row_N.mean() < 280  # of 400
    assert chosen_rows(pairs, 400).tolist() == list(range(400))


def test_splits_of_a_labelled_set_are_its_sides(described, tmp_path):
    path = tmp_path / "labelled.yaml"
    path.write_text("train: {folder: pictures}\ntest: {folder: pictures}\nlabel: folder\ncaptions: txt\n")
    assert index_command([str(path)]) == 0
    sides = sides_of(str(path), DataConfig())
    assert [(side.name, len(side.pairs)) for side in sides] == [("labelled train", 12), ("labelled test", 12)]
    assert sides[1].kinds == ("short",)
    assert sides[1].pairs.caption(3, "short").text == "picture number 3"


def test_an_image_over_the_limit_has_a_problem():
    facts = image_facts(encoded(Image.new("RGB", (40, 40)), "PNG"), max_pixels=1000)
    assert (facts["problem"], facts["format"], facts.get("look")) == ("image over the pixel limit", "PNG", None)


def test_images_are_compared_upright():
    picture = Image.effect_noise((8, 8), 90).convert("RGB").resize((64, 64), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 3
    facts = [image_facts(encoded(picture.rotate(180), "PNG", **given), 10**6) for given in ({"exif": exif}, {})]
    upright = image_facts(encoded(picture, "PNG"), 10**6)["look"]
    assert (upright ^ facts[0]["look"]).bit_count() <= 2
    assert (upright ^ facts[1]["look"]).bit_count() > 10


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_formats_are_known(name):
    assert image_facts(encoded(Image.new("RGB", (4, 4)), name), 100)["format"] == name


@pytest.mark.parametrize(
    ("content", "name"), [(b"", "other"), (b" \n<!DOCTYPE html>", "HTML"), (b"RIFF1234WAVE", "other")]
)
def test_other_files_have_a_format_too(content, name):
    facts = image_facts(content, 100)
    assert (facts["format"], facts["problem"]) == (name, "undecodable image")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a red star", "Latin"),
        ("красная звезда a", "Cyrillic"),
        ("一朵红花", "Han"),
        ("これはほんです本", "Hiragana"),
        ("한국어", "Hangul"),
        ("ＦＵＬＬ", "Latin"),
        ("123", "none"),
        ("", "none"),
    ],
)
def test_scripts_are_those_of_most_letters(text, name):
    assert script(text) == name
