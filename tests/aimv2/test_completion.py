"""Completion, by the words that shells pass, and in bash, which runs the command as it is installed."""

import shutil
import subprocess
import sys
import textwrap

import pytest

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.claims import CLAIMS
from aimv2.cli import COMMANDS, COMPLETE, SHELLS, main
from aimv2.completion import complete
from aimv2.config.recipes.scales import SCALES
from tests.helpers.programs import skip_without

PREFIX = ["prefix_ratio", "prefix_distribution"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["sw"], ["sweep"]),
        ([""], sorted(COMMANDS)),
        (["sweep", "sweep=pre"], [f"sweep={name}" for name in PREFIX]),
        (["sweep", "sweep", "=", "pre"], PREFIX),  # as bash splits it
        (["sweep", "sweep="], [f"sweep={name}" for name in STUDIES]),
        (["train", "scale="], [f"scale={name}" for name in SCALES]),
        (["train", "objective.name=c"], [f"objective.name={name}" for name in ("caption", "cappa", "clip")]),
        (["report", "check", "prefix-b"], [name for name in CLAIMS if name.startswith("prefix-b")]),
        (["report", "loss_w"], ["loss_weight"]),
        (["manage", "ex"], ["extend", "export"]),
        (["train", "nothing="], []),
    ],
)
def test_the_last_word_is_completed(words, found, monkeypatch, capsys):
    monkeypatch.setenv("COMP_WORDS", " ".join(["aimv2", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    assert complete("bash_complete", COMMANDS, COMPLETE) == 0
    assert [line.removeprefix("plain,") for line in capsys.readouterr().out.split()] == found


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_has_a_script(shell, capsys):
    assert main(["completion", shell]) == 0
    assert f"{COMPLETE}={shell}_complete" in capsys.readouterr().out
    assert main(["completion", "csh"]) == 2


@pytest.mark.exhaustive
def test_bash_completes_a_study(installed_command, tmp_path):
    skip_without(shutil.which("bash"), "no bash")
    script = textwrap.dedent(
        """
        eval "$(aimv2 completion bash)"
        COMP_WORDS=(aimv2 sweep sweep = loss_w) COMP_CWORD=4
        _aimv2_completion aimv2
        printf '%s\\n' "${COMPREPLY[@]}"
        """
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, env=installed_command)
    assert done.stdout.split() == ["loss_weight"], done.stderr


@pytest.fixture
def installed_command(tmp_path):
    """An environment whose ``aimv2`` is this code."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "aimv2").write_text(f"#!{sys.executable}\nimport sys\nfrom aimv2.cli import script\nsys.exit(script())\n")
    (folder / "aimv2").chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin", "PYTHONPATH": ":".join(filter(None, sys.path))}
