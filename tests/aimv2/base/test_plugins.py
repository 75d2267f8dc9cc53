"""Plug-ins are imported once, add to registries under names of their own, and fail in one sentence."""

import re

import pytest

from aimv2.base import plugins
from aimv2.base.errors import UsageError
from aimv2.base.plugins import Registry, load

COLOURS = Registry("colour", {"red": 1})


def written(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"from {__name__} import COLOURS\n{text}\n")
    return path


@pytest.mark.parametrize("layout", ["mine.py", "mine/__init__.py"])
def test_a_plugin_is_imported_once_and_known_by_what_it_adds(tmp_path, layout):
    name = f"green {layout}"
    file = written(tmp_path / layout, f"assert COLOURS.add({name!r}, 2) == 2")
    path = file.parent if layout.startswith("mine/") else file
    plugin = load(path)
    assert load(path) is plugin
    assert COLOURS[name] == COLOURS.get_known(name) == 2
    assert COLOURS.plugin_of(name) == plugin
    assert COLOURS.plugin_of("red") is None
    assert re.fullmatch("[0-9a-f]{12}", plugin.digest)


def test_equal_content_has_one_digest(tmp_path):
    one, other, edited = (
        written(tmp_path / f"{name}.py", text) for name, text in zip("abc", ("", "", "1"), strict=True)
    )
    assert load(one).digest == load(other).digest != load(edited).digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("COLOURS.add('red', 2)", "the colour 'red' exists already, built in"),
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("def", "SyntaxError: invalid syntax"),
        ("raise SystemError('no')", "SystemError: no"),
    ],
)
def test_a_broken_plugin_is_one_sentence(tmp_path, text, message):
    path = written(tmp_path / "broken.py", text)
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        load(path)
    assert str(caught.value).startswith(f"plug-in {path} cannot be loaded: ")


@pytest.mark.parametrize("name", ["missing.py", "text.txt", "folder"])
def test_what_is_no_plugin_is_refused(tmp_path, name):
    (tmp_path / "text.txt").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=r"it is no Python file, and no folder with an __init__\.py"):
        load(tmp_path / name)


def test_an_unknown_name_suggests_a_known_one():
    with pytest.raises(UsageError, match=r"unknown colour 'rad'\. Did you mean 'red'\?"):
        COLOURS.get_known("rad")


def test_an_installed_package_is_found_by_its_entry_point(tmp_path, monkeypatch):
    written(tmp_path / "paint_package/__init__.py", "COLOURS.add('blue', 3)")
    about = tmp_path / "paint-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: paint\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{plugins.GROUP}]\npaint = paint_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (plugin,) = plugins.load_installed()
    assert COLOURS.plugin_of("blue") == plugin == plugins.load_installed()[0]
    assert plugin.path == (tmp_path / "paint_package").resolve()
