"""The commands of ``python -m aimv2``."""

import subprocess
import sys
from pkgutil import resolve_name

import pytest

from aimv2.cli import COMMANDS, main, usage, usage_of
from aimv2.config.arguments import guarded


def test_interrupted_command_says_how_to_resume(capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    assert guarded(interrupted, []) == 130
    assert capsys.readouterr().out == "Interrupted. Run the same command to resume.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "unknown command 'fly'. Allowed: cost, data, evaluate, manage, report, scaling, sweep,"),
        (["train", "scale=huge"], "unknown scale 'huge'"),
        (["train", "model.encoder.num_heads=5"], "width=96 is not divisible by num_heads=5"),
        (["train", "prefix.law=fixed", "prefix.fraction=0"], "prefix.fraction: Input should be greater than 0 (got 0)"),
        (["train", "runs_dir=/proc/nowhere"], "runs_dir='/proc/nowhere' cannot be written"),
        (["train", "device=cuda", "data.sources=[fontawesome]"], "finds no CUDA device"),
        (["train", "objective.name=clop"], "unknown objective.name 'clop'. Did you mean 'clip'?"),
        (["cost", "model.decoder.sharing=separate", "objective.name=cappa"], "only 'joint'"),
        (["cost", "runs_dir=runs"], "unknown key 'runs_dir'"),
        (["cost", "seed=1", "seed=2"], "seed= is given twice; once is allowed"),
        (["weights", "import", "to=x"], "from="),
    ],
)
def test_bad_input_gets_one_sentence_and_status_2(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    refused = capsys.readouterr().err
    assert message in refused
    assert refused.count("\n") == 1
    assert not list(tmp_path.rglob("attempts"))


def test_cost_lists_the_parts_of_the_network(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["cost", "scale=vit_l"]) == 0
    printed = capsys.readouterr().out
    assert "encoder        309.2 M" in printed
    assert "1.03e+22 training FLOPs" in printed
    assert main(["cost", "scale=vit_l", "objective.name=clip"]) == 0
    clip = capsys.readouterr().out
    assert "text tower" in clip
    assert "decoder" not in clip
    assert not list(tmp_path.iterdir())


def test_python_m_aimv2_prints_its_usage_and_refuses_bad_input(tmp_path):
    def typed(*arguments):
        return subprocess.run([sys.executable, "-m", "aimv2", *arguments], cwd=tmp_path, capture_output=True, text=True)

    usage = typed("--help")
    assert usage.returncode == 0
    assert usage.stdout.startswith("usage: python -m aimv2 COMMAND")
    assert typed("fly").returncode == 2
    assert not list(tmp_path.iterdir())


HELPS = {
    ("train",): ("budget.samples=4096", "runs_dir=runs", "objective.name=aimv2"),
    ("cost",): ("scale=demo", "vit_3b"),
    ("weights",): ("layout=transformers",),
    ("evaluate",): ("weights=PATH", "data=FILE.yaml"),
}


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize(("command", "keys"), HELPS.items(), ids=" ".join)
def test_command_help_prints_its_keys_only(command, keys, flag, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*command, "scale=demo", flag]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"usage: python -m aimv2 {command[0]}")
    assert all(key in shown.out for key in (*keys, "debug=true"))
    assert shown.err == ""
    assert not list(tmp_path.iterdir())


def test_the_help_of_a_launch_has_what_plug_ins_add(tmp_path, capsys):
    file = tmp_path / "my.py"
    file.write_text(
        "from dataclasses import replace\n"
        "from aimv2.ablations.catalogue import STUDIES\n"
        "STUDIES.add('whiskers', replace(STUDIES['eos'], slug='whiskers', question='Do they matter?'))\n"
    )
    assert main(["sweep", "--help"]) == 0
    assert "whiskers" not in capsys.readouterr().out
    assert main(["sweep", "--help", f"plugins=[{file}]"]) == 0
    assert "\n  whiskers\n    Do they matter?\n" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["train"], ["cost"], ["weights", "import"]])
def test_every_command_takes_debug(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for debug, has_traceback in (("debug=true", True), ("debug=false", False)):
        assert main([*command, "nothing=1", debug]) == 2
        shown = capsys.readouterr().err
        assert "error: unknown key 'nothing'" in shown
        assert ("Traceback" in shown) == has_traceback
    for debug in (["debug=maybe"], ["debug=true", "debug=true"], ["debug="]):
        assert main([*command, *debug]) == 2
        assert "debug" in (refused := capsys.readouterr().err)
        assert refused.count("\n") == 1


def test_command_of_a_tool_that_is_not_installed_is_one_sentence(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "aimv2.tools.cost", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.path", [])
        assert main(["cost"]) == 2
    assert capsys.readouterr().err == "error: cost is a command of aimv2.tools.cost, which is not installed\n"


SLOW = ("torch", "pandas", "scipy", "pyarrow", "polars", "matplotlib", "hydra", "optuna", "submitit", "rich")
LINES = [[name, "--help"] for name in COMMANDS] + [
    *(["--help"], ["--version"], ["report", "check", "--help"], ["data", "index", "--help"])
]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_function(name):
    assert callable(resolve_name(COMMANDS[name].call))
    assert usage_of(name).startswith("usage: ")
    assert f"\n  {name} " in usage()


def test_helps_load_nothing_that_takes_long():
    code = (
        "import sys, io, contextlib; from aimv2.cli import main\n"
        f"for words in {LINES!r}:\n"
        "    with contextlib.redirect_stdout(io.StringIO()):\n"
        "        assert main(words) == 0, words\n"
        f"print([name for name in {SLOW!r} if name in sys.modules])\n"
        "print([name for name in sys.modules if name.startswith('aimv2.ablations.studies.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"


@pytest.mark.exhaustive
def test_reading_and_planning_need_no_package_of_an_extra(tmp_path):
    """The wheel is tested in an environment without them (tests/test_wheel.py, exhaustive)."""
    code = (
        "import sys; from importlib.machinery import PathFinder; from aimv2.base.errors import EXTRAS\n"
        "class Installed(PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        "        return None if name.partition('.')[0] in EXTRAS else super().find_spec(name, path, target)\n"
        "sys.meta_path[:] = [Installed if one is PathFinder else one for one in sys.meta_path]\n"
        "from aimv2.cli import main\n"
        "for words in sys.argv[1:]:\n"
        "    print(main(words.split()), file=sys.stderr)\n"
    )
    words = ["report check prefix-beats-causal --from-records", "sweep sweep=eos dry_run=true", "train"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True)
    needed = "error: python -m aimv2 train needs torch; run: pip install 'aimv2-ablations[train]'"
    assert done.stderr.splitlines() == ["3", "0", needed, "2"]
    assert "prefix-beats-causal is supported" in done.stdout
    assert "20 runs, 20 to do" in done.stdout
