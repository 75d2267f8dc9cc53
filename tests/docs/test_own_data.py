"""docs/data.md and README's commands on the data of its tutorial, and docs/large-data.md, in an empty folder.

Files are written and indexed, audited and shown as the pages say. Of trainings and launches only the cost is computed.
The large data sets are replaced by a few samples in the layout of img2dataset.
"""

import io
import json
import re
import shlex
import shutil
import tarfile

import pytest
from PIL import Image

from tests.helpers.own_data import picture, write
from tests.helpers.pages import NEW_FILE, README, ROOT, cheap, commands

OWN, TUTORIAL, LARGE = (ROOT / "docs" / name for name in ("data.md", "tutorials/own-data.md", "large-data.md"))
LAUNCH = ["python", "-m", "aimv2.sweeps.launch"]
SCORES = {"clip_similarity_vitl14": 0.3, "nsfw_score_opennsfw2": 0.0, "watermark_score": 0.1}


@pytest.fixture
def entered(in_process, cache_dir):
    """A function that runs a command of a page in an empty folder and returns its output."""

    def run(words):
        launches = words[:3] == LAUNCH
        _, *arguments = cheap(["python", "sweeps/launch.py", *words[3:]] if launches else words)
        if "dry_run=true" in arguments or "write" in arguments:
            arguments.append(f"data.cache_dir={cache_dir}")
        if "audit=true" in arguments:
            arguments.append("workers=1")
        status, output = in_process(arguments)
        assert not status, f"{shlex.join(words)}\n{output}"
        return output

    return run


def crawled(folder, num_samples=40):
    """Write a shard as img2dataset does."""
    folder.mkdir()
    with tarfile.open(folder / "00000.tar", "w") as shard:
        for number in range(num_samples):
            values = {"caption": f"photo {number}", "uid": f"{number:032x}", "original_width": 640, **SCORES}
            members = {"jpg": picture(number), "json": json.dumps(values).encode(), "txt": f"photo {number}".encode()}
            for extension, content in members.items():
                member = tarfile.TarInfo(f"{number:09}.{extension}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))


@pytest.mark.exhaustive  # renders all emoji
def test_own_pairs_as_on_the_page(entered, tmp_path):
    for name, text in NEW_FILE.findall(TUTORIAL.read_text()):
        write(tmp_path / name, text)
    steps = commands(TUTORIAL)
    steps = [*steps[steps.index(["python", "digits.py"]) :], *commands(OWN)]
    steps += [words for words in commands(README) if "digits.yaml" in shlex.join(words)]
    printed = "\n".join(entered(list(words)) for words in dict.fromkeys(map(tuple, steps)))
    text = " ".join((TUTORIAL.read_text() + OWN.read_text()).split())
    for fact in ("312 of 1,797 samples are held out", "783 of 3,781 samples are held out"):
        assert fact in printed
        assert fact in text
    assert re.search(r"digits held-out: 57 of 312 images", printed)
    assert "57 of the held-out digits" in text
    assert "digits.leaks.txt: 97 training pairs" in printed
    assert "the 97 training pairs whose keys are in `digits.leaks.txt`" in text
    assert "warning" not in printed
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 500
    assert (tmp_path / "digits.audit.json").exists()


@pytest.mark.exhaustive
def test_large_data_as_on_the_page(entered, tmp_path):
    for name in ("cc3m", "coyo", "dfn"):
        crawled(tmp_path / name)
        shutil.copy(ROOT / "sweeps/conf/data" / f"{name}.yaml", tmp_path)
    shutil.copytree(tmp_path / "dfn", tmp_path / "hqitp")
    write(tmp_path / "hqitp.yaml", "shards: hqitp/*.tar\nshort: txt\ndense: json.caption\n")
    for name in ("coyo", "dfn", "hqitp"):
        assert "samples: 40" in entered(["python", "-m", "aimv2", "data", "index", f"{name}.yaml"])
    for words in commands(LARGE):
        printed = entered(words)
        assert "samples: 40" in printed or "training FLOPs" in printed
