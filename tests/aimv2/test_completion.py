"""Completion, by the function and in real shells, which run the command as it is installed."""

import os
import shutil
import subprocess
import sys
import textwrap

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.claims import CLAIMS
from aimv2.commands import COMMANDS
from aimv2.completion import SCRIPTS, completions
from aimv2.config.program import flattened
from aimv2.config.recipes.scales import SCALES
from aimv2.config.serialization import to_dict
from aimv2.sweeps.manage import COMMANDS as OF_MANAGE
from aimv2.sweeps.usage import KEYS
from tests.helpers.programs import skip_without

OPTIONAL = {"model.text_tower", "start.teacher_encoder", "evaluation.alone"}  # none, or a part whose values have paths


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], [*COMMANDS, "completion", "--help", "--version"]),
        (["sw"], ["sweep"]),
        (["fly", ""], []),
        (["completion", ""], list(SCRIPTS)),
        (["sweep", "sweep=pre"], ["sweep=prefix_ratio", "sweep=prefix_distribution"]),
        (["sweep", "sweep="], [f"sweep={name}" for name in STUDIES]),
        (["sweep", "dry_run="], ["dry_run=true", "dry_run=false"]),
        (["sweep", "executor=s"], ["executor=slurm"]),
        (["train", "scale="], [f"scale={name}" for name in SCALES]),
        (["train", "mixture="], ["mixture=paper", "mixture=public"]),
        (["train", "objective.name=c"], ["objective.name=caption", "objective.name=cappa", "objective.name=clip"]),
        (["train", "optimizer.pe"], ["optimizer.peak_lr="]),
        (["train", "model.encoder.attention="], [f"model.encoder.attention={one}" for one in ("prefix", "causal")]),
        (["train", "objective.supervise_eos="], [f"objective.supervise_eos={one}" for one in ("true", "false")]),
        (["train", "nothing="], []),
        (["data", "in"], ["index"]),
        (["data", "index", "aud"], ["audit="]),
        (["report", "check", "prefix-b"], [name for name in CLAIMS if name.startswith("prefix-b")]),
        (["report", "--c"], ["--check"]),
        (["weights", "ex"], ["export"]),
        (["weights", "export", "layout="], []),
        (["scaling", "fi"], ["fit"]),
        (["evaluate", "weights"], ["weights="]),
    ],
)
def test_the_last_word_is_completed(words, found):
    completed = completions(words)
    if words[-1:] == ["model.encoder.attention="]:
        assert set(found) <= set(completed)
    else:
        assert completed == found


@pytest.mark.parametrize("word", ["sweep=prefix_ratio", "dry_run=true"])
def test_a_key_that_was_typed_is_not_offered_again(word):
    key = word.partition("=")[0]
    assert f"{key}=" not in completions(["sweep", word, ""])
    assert f"{key}=" in completions(["sweep", ""])


def test_every_value_of_a_run_is_completed_by_its_path():
    paths = flattened(to_dict(SCALES["demo"]())).keys() - OPTIONAL
    found = {word for name in {path[:2] for path in paths} for word in completions(["train", name])}
    assert {f"{path}=" for path in paths} <= found


def test_commands_of_manage_and_names_of_sweeps_and_runs(tmp_path):
    for name in ("runs/studies/prefix_ratio", "runs/v2-0123456789ab", "runs/code"):
        (tmp_path / name).mkdir(parents=True)
    assert set(OF_MANAGE) <= set(completions(["manage", ""], tmp_path))
    assert completions(["manage", "status", "pr"], tmp_path) == ["prefix_ratio"]
    assert completions(["manage", "logs", "v"], tmp_path) == ["v2-0123456789ab"]
    assert completions(["manage", "export", "pre"], tmp_path) == ["prefix_ratio"]
    assert completions(["manage", "extend", "prefix_ratio", "see"], tmp_path) == ["seeds="]
    assert completions(["manage", "publish", "run", ""], tmp_path)[0] == "v2-0123456789ab"
    assert completions(["manage", "publish", "study", "pr"], tmp_path) == ["prefix_ratio"]


@pytest.mark.parametrize("command", KEYS)
def test_keys_of_manage_are_those_that_the_command_takes(command, tmp_path):
    found = completions(["manage", command, ""], tmp_path)
    typed = {word.removesuffix("=") for word in found if word.endswith("=") or word.startswith("--")}
    assert typed - {"runs_dir", "plugins", "debug", "--help"} == {key for key in KEYS[command] if not key.endswith(".")}


@pytest.fixture
def shell(tmp_path):
    """Return a function that runs a program of a shell where ``aimv2`` is this code."""
    command = tmp_path / "aimv2"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m aimv2 "$@"\n')
    command.chmod(0o755)

    def run(name, program):
        path = shutil.which(name)
        skip_without(path, f"no {name}")
        environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "TERM": "dumb"}
        done = subprocess.run([path, "-c", textwrap.dedent(program)], capture_output=True, text=True, env=environment)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    return run


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("aimv2 swe", ["sweep"]),
        ("aimv2 sweep swee", ["sweep=", "sweep.arms="]),
        ("aimv2 sweep sweep=prefix_r", ["prefix_ratio"]),  # bash replaces what follows "="
        ("aimv2 sweep sweep=eos dry_run=t", ["true"]),
        ("aimv2 report check prefix-beats-causal-p", ["prefix-beats-causal-probe"]),
    ],
)
def test_bash_completes(shell, line, found):
    program = f"""
        eval "$(aimv2 completion bash)"
        COMP_LINE={line!r} COMP_POINT=${{#COMP_LINE}}
        compopt() {{ :; }}  # needs a terminal
        _aimv2
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    completed = shell("bash", program)
    assert completed[: len(found)] == found
    assert "sweep=" in found or len(completed) == len(found)


def test_fish_completes(shell):
    program = """
        aimv2 completion fish | source
        complete -C 'aimv2 sweep sweep=prefix_r'
        complete -C 'aimv2 repo'
    """
    assert shell("fish", program) == ["sweep=prefix_ratio", "report"]


def test_zsh_completes(shell):
    """zsh completes only in a terminal, of which zpty is one."""
    program = """
        zmodload zsh/zpty
        zpty shell zsh -f -i
        zpty -w shell 'PS1= RPS1=; autoload -U compinit; compinit -u -D; eval "$(aimv2 completion zsh)"; print ready'
        zpty -r shell seen '*ready*ready*'
        zpty -w -n shell $'aimv2 sweep sweep=prefix_r\\t'
        zpty -r shell seen '*prefix_ratio*'
        print -r -- ${seen##*sweep=}
        zpty -d shell
    """
    assert shell("zsh", program)[-1].startswith("prefix_ratio")
