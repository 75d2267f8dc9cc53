import io

import pytest
from aimv2.tools.data.audit.recognise import image_format, script
from PIL import Image


def encoded(picture, name):
    content = io.BytesIO()
    picture.save(content, name)
    return content.getvalue()


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_formats_are_known_by_their_first_bytes(name):
    assert image_format(encoded(Image.new("RGB", (4, 4)), name)) == name


@pytest.mark.parametrize(
    ("content", "name"), [(b"", "other"), (b" \n<!DOCTYPE html>", "HTML"), (b"RIFF1234WAVE", "other")]
)
def test_other_files_have_a_name_too(content, name):
    assert image_format(content) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a red star", "Latin"),
        ("красная звезда a", "Cyrillic"),
        ("一朵红花", "Han"),
        ("これはほんです本", "Kana"),
        ("한국어", "Hangul"),
        ("κόκκινο", "Greek"),
        ("שלום", "Hebrew"),
        ("نجمة", "Arabic"),
        ("लाल", "Devanagari"),
        ("ดาว", "Thai"),
        ("ＦＵＬＬ", "Latin"),
        ("აბგ", "other"),
        ("123", "none"),
        ("", "none"),
    ],
)
def test_scripts_are_those_of_most_letters(text, name):
    assert script(text) == name
