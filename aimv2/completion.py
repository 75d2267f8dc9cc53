"""Completion of commands and of names after their keys in bash, zsh and fish, whose scripts click writes."""

from collections.abc import Collection, Mapping

import click
from click.shell_completion import CompletionItem, get_completion_class, shell_complete

from aimv2.ablations.catalogue import questions
from aimv2.ablations.claims import CLAIMS
from aimv2.config.recipes.post_training import RECIPES
from aimv2.config.recipes.scales import SCALES
from aimv2.definitions.objectives import OBJECTIVES, OPTIMIZERS
from aimv2.sweeps.usage import KEYS as MANAGE

NAMES: Mapping[str, Collection[str]] = {
    "sweep": questions(),
    "scale": SCALES,
    "recipe": RECIPES,
    "mixture": ("paper", "public"),
    "objective.name": OBJECTIVES,
    "optimizer.name": OPTIMIZERS,
    "dry_run": ("true",),
}
# What follows the name of a command.
FIRST: Mapping[str, Collection[str]] = {
    "manage": MANAGE,
    "report": ("check", "claims", "index", "all", *questions()),
    "report check": CLAIMS,
}


def complete(instruction: str, commands: Collection[str], variable: str) -> int:
    """Print what a shell asks for in the environment variable; return the exit status."""
    return shell_complete(_group(commands), {}, "aimv2", variable, instruction)


def script_for(shell: str, commands: Collection[str], variable: str) -> str:
    """Return the script that has a shell complete ``aimv2``."""
    completion = get_completion_class(shell)
    assert completion is not None, "a shell that click knows"
    return completion(_group(commands), {}, "aimv2", variable).source()


def _group(commands: Collection[str]) -> click.Group:
    group = click.Group("aimv2")
    for name in commands:
        words = click.Argument(["words"], nargs=-1, type=click.UNPROCESSED, shell_complete=_completions)
        group.add_command(click.Command(name, params=[words], context_settings={"ignore_unknown_options": True}))
    return group


def _completions(context: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
    """Return what a word can become. Bash splits ``key=value`` at the sign, so the key may be a word before."""
    before = [word for word in context.params.get("words") or () if word != "="]
    if before and before[-1] in NAMES:
        words: list[str] = list(NAMES[before[-1]])
    else:
        command = " ".join([str(context.info_name), *before])
        words = [*FIRST.get(command, ()), *(f"{key}={name}" for key, names in NAMES.items() for name in names)]
    return [CompletionItem(word) for word in words if word.startswith(typed)]
