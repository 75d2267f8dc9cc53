"""The page of sweeps, read by the standard library's parser; and curves from files with known rows."""

import base64
import hashlib
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.sweeps.status.page import HEIGHT, NUM_BINS, TICKS, WIDTH, Curves, Page, _ticks
from aimv2.sweeps.status.runs import RunStatus
from aimv2.sweeps.status.status import SweepStatus

EVIL = "<script>alert(1)</script>\" onload='x' {{ 7 * 7 }}"


class Elements(HTMLParser):
    """Collects the elements, their attributes, and the text."""

    def __init__(self, page):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def written(tmp_path):
    """Return a function that appends rows to the file of a run's first attempt."""

    def write(run, rows, end="\n"):
        folder = tmp_path / run / "attempts" / "0001"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "metrics.jsonl").open("a") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows).removesuffix("\n") + end)
        return folder

    return write


def run(arm, seed, state, **values):
    values = {"attempt": 1, "samples": 400, "read_at": 1.0} | values
    return RunStatus(run=f"v2-{arm}{seed}", arm=arm, seed=seed, state=state, budget=800, **values)


def sweep(*runs, **values):
    return SweepStatus(
        **({"name": "eos", "num_launches": 1, "queue": [], "runs": list(runs), "waits": "busy"} | values)
    )


def rendered(folder, *sweeps):
    return Page(folder, 5).rendered([replace(one, baseline="base") for one in sweeps])


def test_training_losses_are_means_of_bins_and_held_out_values_are_points(written):
    rows = [{"step": n, "samples": n, "text_loss": float(n % 10), "seconds": 1.0} for n in range(1, 10 * NUM_BINS + 1)]
    folder = written("v2-a", [{"step": 0, "samples": 0, "held_out_caption_loss": 7.0}, *rows])
    found = Curves(folder, 10 * NUM_BINS).points()
    assert found["held_out_caption_loss"] == [(0.0, 7.0)]
    assert set(found) == {"held_out_caption_loss", "text_loss"}
    assert len(found["text_loss"]) == NUM_BINS
    assert found["text_loss"][1] == (sum(range(10, 20)) / 10, 4.5)


def test_rows_are_read_as_they_are_written_and_broken_lines_are_skipped(written):
    folder = written("v2-a", [{"samples": 0, "text_loss": 3.0}])
    curves = Curves(folder, NUM_BINS)
    assert curves.points() == {"text_loss": [(0.0, 3.0)]}
    assert curves.points() == {"text_loss": [(0.0, 3.0)]}
    written("v2-a", [{"samples": 7, "text_loss": 2.0}], end="\n[1]\n{\n" + '{"samples": 9, "text_')
    assert curves.points() == {"text_loss": [(0.0, 3.0), (7.0, 2.0)]}
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('loss": 1.0}\n')
    assert curves.points() == {"text_loss": [(0.0, 3.0), (7.0, 2.0), (9.0, 1.0)]}
    assert Curves(folder.parent / "0002", 10).points() == {}


def test_active_runs_are_drawn_beside_the_finished_baseline(written, tmp_path):
    for name, values in (("v2-base0", (2.0, 1.0)), ("v2-arm0", (2.0, 1.5)), ("v2-arm1", (9.0, 9.0))):
        written(name, [{"samples": 400 * (n + 1), "text_loss": value} for n, value in enumerate(values)])
    runs = [
        run("base", 0, "done", samples=800),
        run("arm", 0, "running"),
        run("arm", 1, "done"),
        run("base", 1, "failed"),
    ]
    page = Elements(rendered(tmp_path, sweep(*runs)))
    lines = {one["class"]: one["points"] for one in page.of("polyline")}
    half, middle = f"{WIDTH / 2:.1f}", f"{HEIGHT / 2:.1f}"
    assert lines == {
        "baseline": f"{half},0.0 {WIDTH:.1f},{HEIGHT:.1f}",
        "c0": f"{half},0.0 {WIDTH:.1f},{middle}",
    }
    assert [one.get("class") for one in page.of("li")] == ["baseline", "c0"]
    assert "text loss, training" in page.text
    assert not Elements(rendered(tmp_path, sweep(*runs[2:]))).of("polyline"), "nothing is active"


def test_values_that_are_not_finite_are_not_drawn(written, tmp_path):
    rows = [{"samples": 100, "text_loss": 3.0}, {"samples": 500, "text_loss": float("nan")}]
    written("v2-arm0", rows)
    (line,) = Elements(rendered(tmp_path, sweep(run("arm", 0, "running")))).of("polyline")
    assert "nan" not in line["points"]


def test_page_has_progress_failures_with_advice_and_reasons_for_waiting(tmp_path):
    runs = [
        run(
            "base", 0, "running", images_per_second=50.0, seconds_left=8.0, losses="text 1.5", host="node7", note="slow"
        ),
        run("arm", 0, "failed", cause="out of memory", note="needs 9 GB"),
        run("arm", 1, "failed", cause="out of memory", note="needs 9 GB"),
        run("arm", 2, "waiting", samples=0),
    ]
    text = " ".join(Elements(rendered(tmp_path, sweep(*runs, question="Why?", queue=["3 PENDING"]))).text.split())
    for shown in (
        "Why? 4 runs, 1 running, 2 failed, 1 waiting; 1,200 of 3,200 samples; 1 active launch",
        "3 PENDING",
        "base, seed 0v2-base0 50 % 50 8 s text 1.5node7 slow",
        "arm, seed 0 (v2-arm0) and 1 more failed, out of memory: needs 9 GB retry with a smaller executor.runs_per_gpu",
        "waiting: busy",
    ):
        assert shown in text
    assert "nothing was launched into this folder yet" in Elements(rendered(tmp_path)).text


def test_nothing_from_folders_becomes_markup(tmp_path, written):
    written("v2-arm0", [{"samples": 1, f"{EVIL}_loss": 1.0}])
    evil = run(EVIL, 0, "running", host=EVIL, note=EVIL, losses=EVIL)
    evil.run = "v2-arm0"
    failed = run("arm", 1, "failed", cause="bug", note=EVIL)
    one = sweep(evil, failed, name=EVIL, question=EVIL, queue=[EVIL], waits=EVIL, code=EVIL, report=EVIL)
    page = Elements(rendered(tmp_path, one))
    assert not page.of("script")
    assert not [name for _, attributes in page.found for name in attributes if name.startswith("on") or name == "style"]
    assert page.text.count("alert(1)") >= 9
    assert "{{ 7 * 7 }}" in page.text


def test_policy_allows_the_style_of_the_page_and_nothing_else(tmp_path):
    page = Page(tmp_path, 5)
    (css,) = re.findall("<style>(.*?)</style>", page.rendered([]), flags=re.S)
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    assert page.policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "unsafe" not in page.policy


@given(low=st.floats(-1e3, 1e6), spread=st.floats(1e-3, 1e6))
def test_ticks_are_a_few_round_numbers_in_the_range(low, spread):
    found = _ticks(low, low + spread)
    assert 1 <= len(found) <= 2 * TICKS + 1
    assert all(low - 1e-6 * spread <= tick <= low + spread + 1e-6 * spread for tick in found)
    steps = {f"{after - before:.0e}"[0] for before, after in pairwise(found)}
    assert steps <= {"1", "2", "5"}


def test_rows_without_a_scale_are_left_out(written, tmp_path):
    """They ended the page of all sweeps."""
    good = {"step": 1, "samples": 8, "text_loss": 1.0}
    huge = [{"step": 2, "samples": 200, "text_loss": 1e308}, {"step": 3, "samples": 400, "text_loss": -1e308}]
    written("v2-arm0", [good, good | {"samples": math.inf}, *huge, huge[0] | {"samples": 9}, huge[0] | {"samples": 9}])
    (line,) = Elements(rendered(tmp_path, sweep(run("arm", 0, "running")))).of("polyline")
    assert len(line.get("points").split()) == 1
