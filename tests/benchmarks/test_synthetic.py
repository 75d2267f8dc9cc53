import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from benchmarks.synthetic import PHOTOGRAPHS, SCENES, write_shards


@pytest.mark.parametrize("kind", [PHOTOGRAPHS, SCENES], ids=lambda kind: kind.name)
def test_shards_have_pictures_of_their_kind_and_two_captions(tmp_path, kind):
    shards = write_shards(tmp_path / "shards", kind, 10)
    assert [shard.name for shard in shards] == ["00000.tar", "00001.tar", "00002.tar", "00003.tar"]
    members = {}
    for shard in shards:
        with tarfile.open(shard) as tar:
            members |= {each.name: tar.extractfile(each).read() for each in tar}
    assert len(members) == 30
    for number in range(10):
        content, text, described = (members[f"{number:09d}.{end}"] for end in (kind.extension, "txt", "json"))
        with Image.open(io.BytesIO(content)) as image:
            assert image.size == (kind.width, kind.height)
            assert np.asarray(image).std() > 10
        assert len(text.split()) == 8
        assert len(json.loads(described)["caption"].split()) == 30
        if kind is PHOTOGRAPHS:
            assert 30_000 < len(content) < 60_000
