"""Differences between two folders of a report, number by number."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimv2.analysis.document.differences import differences
from aimv2.analysis.document.pages import plain
from aimv2.analysis.document.style import save


@pytest.fixture
def folders(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    return tmp_path / "one", tmp_path / "other"


def of_texts(folders, old, new, name="report.md"):
    for folder, text in zip(folders, (old, new), strict=True):
        (folder / name).write_text(text)
    return compared(folders).get(folders[0] / name, [])


def compared(folders):
    names = {str(path.relative_to(folder)) for folder in folders for path in folder.rglob("*") if path.is_file()}
    return differences(*folders, names)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"low": 0.12345678', '"low": 0.12345679'),  # between two numbers of eight digits
        ('"low": 0.3', '"low": 0.30000001'),
        ('"low": 1.0', '"low": 0.99999999'),
        ("1.23457e+12,b", "1.23456e+12,b"),
        ("M100.01 3.5L7 8", "M100 3.5L7 8"),
        ('url(#p0123456789) d="M1.0000"', 'url(#pfedcba9876) d="M1.0001"'),  # the name follows from the number
        ("12.3456789012 5 m", "12.3456789013 5 m"),
        ("code 5e12345678ab\n0.3000001", "code 5e12345678ab\n0.3000002"),  # a digest is no large number
    ],
)
def test_rounding_is_no_difference(folders, old, new):
    assert of_texts(folders, old, new) == of_texts(folders, new, old) == []


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("0.1234", "0.1235", "Line 1: 0.1234 is now 0.1235 (+0.081 %)"),
        ("a\nloss 0.100 here", "a\nloss 0.125 here", "Line 2: loss 0.100 is now 0.125 (+25 %)"),
        ("12345 samples", "12346 samples", "Line 1: 12345 is now 12346 (+0.0081 %)"),  # a count
        ("x,0.12345678", "x,0.12345681", "Line 1: x,0.12345678 is now 0.12345681 (+2.4e-05 %)"),
        ("[0, 1]", "[3, 1]", "Line 1: [0 is now 3 (+3)"),
        ("is better by 3", "is worse by 3", "Line 1: 'is better by 3' is now 'is worse by 3'"),
        ("+0.000", "-0.001", "Line 1: +0.000 is now -0.001 (-0.001)"),
        ("a", "a\nb", "Line 2: '' is now 'b'"),
        ("a", "a\0", "Line 1: 'a' is now 'a\\x00'"),
    ],
)
def test_moved_number_and_changed_text_are_named(folders, old, new, sentence):
    assert of_texts(folders, old, new) == [sentence]


@pytest.mark.parametrize(("old", "new"), [(b"\xff\xfe", b"\xf0\xf1"), (b"caf\xe9", b"caf\xe8")])
def test_bytes_that_are_no_text_must_be_the_same(folders, old, new):
    for folder, content in zip(folders, (old, new), strict=True):
        (folder / "a.pdf").write_bytes(content)
    assert compared(folders) == {folders[0] / "a.pdf": ["It has other content, which is no text."]}


def test_ends_of_lines_are_compared(folders):
    for folder, content in zip(folders, (b"a\r\nb", b"a\nb"), strict=True):
        (folder / "a.csv").write_bytes(content)
    assert len(compared(folders)) == 1


def test_every_number_of_a_line_is_compared(folders):
    assert len(of_texts(folders, "1 2 3 4", "1 3 3 5")) == 2


@given(value=st.floats(1e-9, 1e9), noise=st.floats(-1e-13, 1e-13))
def test_noise_of_another_processor_moves_no_number_of_a_file(value, noise, tmp_path_factory):
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "other")]
    texts = [f"{plain(x)} {x:.6g}." for x in (value, value * (1 + noise))]
    assert of_texts(folders, *texts) == []


def test_files_of_one_folder_alone_are_named(folders):
    one, other = folders
    (one / "figures").mkdir()
    (one / "figures" / "a.svg").write_text("")
    (other / "b.md").write_text("")
    assert compared(folders) == {
        one / "b.md": ["The file is missing."],
        one / "figures" / "a.svg": ["The report has no such file."],
    }


@pytest.mark.parametrize(("change", "moves"), [(1e-12, False), (0.02, True)])
def test_figures_are_compared_by_what_they_draw(folders, change, moves):
    for folder, factor in zip(folders, (1, 1 + change), strict=True):
        figure, axis = plt.subplots()
        axis.plot(np.array([0.1, 0.7, 0.3]) * [1, factor, 1])
        axis.set_ylim(0, 1)
        save(figure, pd.DataFrame({"x": [0.7 * factor]}), folder, "a", export=True)
        plt.close(figure)
    assert [path.name for path in compared(folders)] == (["a.csv", "a.pdf", "a.svg"] if moves else [])
