import io
import json
from datetime import date

import pytest
from aimv2.base.errors import BadSampleError, UsageError
from aimv2.tools.data.members import _put, encoded_json, extension
from PIL import Image


@pytest.mark.parametrize("name", ["jpg", "png", "webp"])
def test_extensions_are_found_in_the_content(name):
    content = io.BytesIO()
    Image.new("RGB", (3, 2)).save(content, format={"jpg": "JPEG"}.get(name, name))
    assert extension(content.getvalue()) == name


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"RIFF\0\0\0\0WAVE", b"<html>"])
def test_other_content_is_a_bad_sample(content):
    with pytest.raises(BadSampleError, match="undecodable image"):
        extension(content)


def test_json_has_unicode_and_dates_as_text():
    content = encoded_json({"text": "красный", "day": date(2024, 2, 29)})
    assert json.loads(content) == {"text": "красный", "day": "2024-02-29"}
    assert "красный" in content.decode()


@pytest.mark.parametrize("names", [("caption", "caption.en"), ("caption.en", "caption")])
def test_a_field_within_another_cannot_be_written_beside_it(names):
    fields = {}
    _put(fields, names[0].split("."), "first")
    with pytest.raises(UsageError, match=f"the field {names[1]} and one .* cannot be written together"):
        _put(fields, names[1].split("."), "second")
