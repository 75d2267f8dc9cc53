"""Plug-ins are imported once, add to registries under names of their own, are frozen, and fail in one sentence."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from aimv2.base import plugins
from aimv2.base.errors import UsageError
from aimv2.base.files import read_json, write_json
from aimv2.base.plugins import Registry, check_loaded, load, load_from_snapshots, using


def _small(name, item):
    if item > 9:
        raise UsageError(f"colour {name}: {item} is more than 9")


COLOURS = Registry("colour", {"red": 1}, _small)
LAZY = Registry("word", {"path": "os:sep", "line": "os:linesep", "nothing": "os:nothing"})


@pytest.fixture(autouse=True)
def context():
    """Unload what a test has loaded."""
    with using([]):
        yield


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"from {__name__} import COLOURS\n{text}\n")
    return path


def green_of_a_child():
    code = f"import {__name__} as tests; print(tests.COLOURS['green'])"
    return subprocess.check_output([sys.executable, "-c", code], text=True)


@pytest.mark.parametrize("layout", ["mine.py", "mine/__init__.py"])
def test_a_plugin_is_imported_once_and_known_by_what_it_adds(tmp_path, layout):
    file = written(tmp_path / layout, "assert COLOURS.add('green', 2) == 2")
    path = file.parent if layout.startswith("mine/") else file
    plugin = load(path)
    assert load(path) is plugin
    assert COLOURS["green"] == COLOURS.get_known("green") == 2
    assert list(COLOURS) == ["red", "green"]
    assert len(COLOURS) == 2
    assert COLOURS.plugin_of("green") == plugin
    assert COLOURS.plugin_of("red") is None
    assert plugin in plugins.loaded()
    assert re.fullmatch(r"mine(\.py)?@[0-9a-f]{12}", plugin.id)
    assert [path.name for path in tmp_path.rglob("*.pyc")] == [], "nothing is written beside it"


def test_a_copy_with_equal_content_is_the_same_plugin_and_another_file_of_its_name_is_refused(tmp_path):
    one, copy = (written(tmp_path / folder / "a.py", "COLOURS.add('green', 2)") for folder in ("one", "two"))
    with using([one]) as (plugin,):
        assert load(copy) is plugin
        written(copy, "COLOURS.add('blue', 2)")
        with pytest.raises(UsageError, match=r"two/a\.py: .*one/a\.py is loaded already, .*; rename one of them"):
            load(copy)
        assert "blue" not in COLOURS
    with using([copy]) as (other,):
        assert other.digest != plugin.digest


def test_a_context_has_its_plugins_and_its_processes_have_them_too(tmp_path):
    path = written(tmp_path / "a.py", "COLOURS.add('green', 2)")
    with using([path]) as (plugin,):
        assert COLOURS["green"] == 2
        assert green_of_a_child() == "2\n"
        with using([path]) as (again,):
            assert again is plugin
        assert COLOURS["green"] == 2
    assert "green" not in COLOURS
    assert plugins.VARIABLE not in os.environ
    assert not [name for name in sys.modules if plugin.digest in name]
    with using([path]):
        assert COLOURS["green"] == 2


@pytest.mark.exhaustive
def test_importing_our_packages_loads_no_plugin(tmp_path):
    (tmp_path / "a.py").write_text("print('loaded')")
    code = "import aimv2.extend, aimv2.run.execute, aimv2.sweeps.manage, aimv2.sweeps.launch, aimv2.analysis.report"
    variables = os.environ | {plugins.VARIABLE: json.dumps([str(tmp_path / "a.py")])}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_ours_are_imported_when_they_are_read():
    assert "nothing" in LAZY
    assert LAZY["path"] == os.sep
    with pytest.raises(AttributeError):
        LAZY["nothing"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("COLOURS.add('red', 2)", "the colour 'red' exists already, built in"),
        ("COLOURS.add('dark', 10)", "colour dark: 10 is more than 9"),
        ("COLOURS.add('green', 2); COLOURS.add('green', 2)", "the colour 'green' exists already, in "),
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("def", "SyntaxError: invalid syntax"),
        ("raise SystemError('no')", "SystemError: no"),
        ("import sys; sys.exit('no')", "SystemExit: no"),
        ("import pathlib; pathlib.Path(__file__).write_text('#')", "it was edited at this moment"),
    ],
)
def test_a_broken_plugin_is_one_sentence_and_leaves_nothing(tmp_path, text, message):
    path = written(tmp_path / "broken.py", text)
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        load(path)
    assert str(caught.value).startswith(f"plug-in {path} cannot be loaded: ")
    assert list(COLOURS) == ["red"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text.txt", r"it is not a Python file, nor a folder with an __init__\.py"),
        ("folder", r"it is not a Python file, nor a folder with an __init__\.py"),
        ("curriculm.py", r"there is no such file\. Did you mean 'curriculum\.py'\?"),
    ],
)
def test_what_is_no_plugin_is_refused(tmp_path, name, message):
    for file in ("text.txt", "curriculum.py"):
        (tmp_path / file).touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=message):
        load(tmp_path / name)


def test_what_needs_a_plugin_says_which(tmp_path):
    path = written(tmp_path / "a.py", "COLOURS.add('green', 2)")
    with pytest.raises(UsageError, match=r"^run 1 needs the plug-in b\.py \(0{12}\); type plugins=\[PATH/b\.py\]$"):
        check_loaded([f"b.py@{'0' * 12}"], "run 1")
    both = [f"{name}.py@{'0' * 12}" for name in "bcb"]
    with pytest.raises(UsageError, match=r"plug-ins b\.py \(0+\) and c\.py \(0+\); type plugins=\[PATH/b\.py,PATH/c"):
        check_loaded(both, "run 1")
    plugin = load(path)
    check_loaded([plugin.id], "run 1")
    with pytest.raises(UsageError, match=rf"with the content 0{{12}}, and {path} has {plugin.digest}: it was edited"):
        check_loaded([f"a.py@{'0' * 12}"], "run 1")


def test_code_in_a_snapshot_has_the_plugins_of_the_snapshot_and_no_others(tmp_path, monkeypatch):
    here, source = tmp_path / "here", "import aimv2.tests_colours as all; all.COLOURS.add({name!r}, {value})"
    for path, name in ((here / "a.py", "green"), (here / "b/__init__.py", "grey")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source.format(name=name, value=2))
    (here / "b/more.py").touch()
    code = tmp_path / "code"
    for part in ("base", "__init__.py"):
        copy = shutil.copytree if part == "base" else shutil.copyfile
        copy(plugins.PACKAGE / part, code / "aimv2" / part)
    (code / "aimv2/tests_colours.py").write_text("from aimv2.base.plugins import Registry\nCOLOURS = Registry('c')\n")
    shown = "import aimv2.tests_colours as all; print(dict(all.COLOURS))"
    variables = os.environ | {"PYTHONPATH": str(code), plugins.VARIABLE: json.dumps([str(here / "a.py")])}

    def found(command):
        options = {"cwd": tmp_path, "env": variables, "capture_output": True, "text": True}
        done = subprocess.run([sys.executable, "-c", command], **options)
        return "".join((done.stdout + done.stderr).splitlines()[-1:])

    freeze = "import pathlib, aimv2.base.plugins as all; all.load(pathlib.Path({!r})); all.freeze(pathlib.Path({!r}))"
    assert found(shown) == "{'green': 2}"
    found(freeze.format(str(here / "b"), str(code)))
    assert [plugin["name"] for plugin in read_json(code / "plugins/plugins.json")] == ["b", "a.py"]
    write_json(code / "frozen.json", {})
    (here / "a.py").write_text(source.format(name="yellow", value=2))
    assert found(shown) == "{'grey': 2, 'green': 2}"
    (edited,) = code.glob("plugins/*/a.py")
    edited.write_text("#")
    assert "was changed in the snapshot; delete the snapshot and launch again" in found(shown)


def test_a_plugin_that_was_edited_since_it_was_loaded_is_not_frozen(tmp_path):
    path = written(tmp_path / "a.py", "COLOURS.add('green', 2)")
    with using([path]):
        written(path, "COLOURS.add('green', 3)")
        with pytest.raises(UsageError, match="was edited while the launch was planned"):
            plugins.freeze(tmp_path / "code")


def test_a_plugin_is_loaded_from_a_snapshot_unless_there_is_one_of_its_name(tmp_path):
    path = written(tmp_path / "a.py", "COLOURS.add('green', 2)")
    with using([path]) as (plugin,):
        plugins.freeze(tmp_path / "code")
    path.unlink()
    snapshots = [tmp_path / "nothing", tmp_path / "code"]
    load_from_snapshots(["b.py@0"], snapshots)
    load_from_snapshots([plugin.id], snapshots)
    assert COLOURS["green"] == 2
    (found,) = [one for one in plugins.loaded() if one.name == "a.py"]
    assert found.path == tmp_path / f"code/plugins/{plugin.digest}/a.py"
    load_from_snapshots(["a.py@000000000000"], snapshots)
    assert COLOURS.plugin_of("green") is found
    assert green_of_a_child() == "2\n", "processes that are started have it too"
