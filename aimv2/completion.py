"""Completion of command lines in bash, zsh and fish: commands, keys and values, as the helps of the commands have them.

The shell's script calls ``aimv2 complete WORDS``, which prints what the last word can become. Names of runs and sweeps
are those of ``runs/`` in the current folder.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Literal, get_args, get_origin

from aimv2.base.typed import as_typed
from aimv2.commands import COMMANDS, usage_of
from aimv2.sweeps.usage import KEYS

SCRIPTS = {
    "bash": r"""_aimv2() {
    local line=${COMP_LINE:0:COMP_POINT} words
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local current=${words[${#words[@]} - 1]}
    mapfile -t COMPREPLY < <("${words[0]}" complete "${words[@]:1}" 2> /dev/null)
    # bash replaces what follows the last "="
    [[ $current == *=* && $COMP_WORDBREAKS == *=* ]] && COMPREPLY=("${COMPREPLY[@]#"${current%=*}="}")
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
    return 0
}
complete -o default -F _aimv2 aimv2
""",
    "zsh": r"""#compdef aimv2
_aimv2() {
    local -a found
    found=(${(f)"$("${words[1]}" complete "${(@)words[2,CURRENT]}" 2> /dev/null)"})
    if (( $#found )); then
        compadd -S '' -- ${(M)found:#*=}
        compadd -- ${found:#*=}
    else
        compset -P '*='
        _files
    fi
}
if [[ ${funcstack[1]} == _aimv2 ]]; then _aimv2 "$@"; else compdef _aimv2 aimv2; fi
""",
    "fish": """complete -c aimv2 -f -a '(aimv2 complete (commandline -opc)[2..] (commandline -ct) 2> /dev/null)'
""",
}
FIRST = re.compile(r"^  (\S.*?)(?:  |$)", re.MULTILINE)  # the first column of a help, which says what is typed
KEY = re.compile(r"(?!key=)([a-z][a-z0-9_.]*)=(\S*)")
COMMAND = re.compile(r"[a-z]\w*")
RUN_PATHS = "any other value"  # of a help: the command takes the values of a run by their paths
# Values of keys, and names in the place of words like STUDY: functions that return them.
VALUES = {
    "sweep": "aimv2.ablations.catalogue:questions",
    "study": "aimv2.ablations.catalogue:questions",
    "scale": "aimv2.config.recipes.scales:SCALES",
    "recipe": "aimv2.config.recipes.post_training:RECIPES",
    "objective.name": "aimv2.spec.objectives:REGISTRY",
    "optimizer.name": "aimv2.spec.optimizers:REGISTRY",
}


def completions(words: Sequence[str], folder: Path = Path()) -> list[str]:
    """Return what the last word of a command line can become, sorted as the helps list it.

    Args:
        words: those after ``aimv2``; the last one is completed and may be empty.
        folder: where the command would run.
    """
    *before, current = words or [""]
    if not before:
        found: Iterable[str] = [*COMMANDS, "completion", "--help", "--version"]
    elif before == ["completion"]:
        found = SCRIPTS
    elif before[0] in COMMANDS:
        found = _of_command(before[0], before[1:], current, folder)
    else:
        found = []
    return [word for word in dict.fromkeys(found) if word.startswith(current)]


def _of_command(name: str, before: Sequence[str], current: str, folder: Path) -> Iterator[str]:
    whole, text = usage_of(name), usage_of(name, before)  # of ``data``, and of ``data index``
    rows = [row.split() for row in FIRST.findall(text)]
    typed = [*text.partition("\n\n")[0].replace("[", " ").split(), *(word for row in rows for word in row)]
    keys = {match[1]: match[2] for word in typed if (match := KEY.match(word))}
    flags = [word.strip("[];,") for row in rows for word in row if word.startswith("--")]
    names = [word for word in before if "=" not in word and not word.startswith("-")]
    if name == "manage" and names and names[0] in KEYS:  # its help has the keys of all of its commands
        taken = KEYS[names[0]]
        flags = [key for key in taken if key.startswith("--")]
        own = [key for key in taken if not key.endswith(".") and key not in flags]
        keys = {key: keys.get(key, "") for key in (*own, "runs_dir", "plugins", "debug")}
    takes_paths = RUN_PATHS in text
    if "=" in current:
        key = current.partition("=")[0]
        yield from (f"{key}={value}" for value in _values(key, keys.get(key, ""), takes_paths))
        return
    lines = re.findall(rf"^(?:usage: |       ){re.escape(as_typed(name))} (.*)", whole, re.MULTILINE)
    firsts = [row.split() for row in (*FIRST.findall(whole), *lines)]
    if name != "sweep":  # which lists studies
        for row in firsts:
            yield from _next(row, names, folder)
    given = {word.partition("=")[0] for word in before}
    yield from (f"{key}=" for key in keys if key not in given)
    yield from flags
    yield "--help"
    if takes_paths and current:
        yield from (f"{path}=" for path in dict(_paths()))


def _next(row: Sequence[str], names: Sequence[str], folder: Path) -> Iterator[str]:
    """Yield what follows these words in a row of a help such as ``publish run RUN to=FOLDER``; its last word may be
    repeated."""
    words = [word for word in row if "=" not in word and not word.startswith("-")]
    if all(not COMMAND.fullmatch(word) or word == name for word, name in zip(words, names, strict=False)):
        following = words[min(len(names), len(words) - 1)] if words else ""
        if not COMMAND.fullmatch(following):
            yield from _named(following, folder)
        elif len(names) < len(words):
            yield following


def _named(word: str, folder: Path) -> Iterable[str]:
    """Return the names in the place of a word of a help such as ``[SWEEP]`` or ``SWEEP|RUN``."""
    known: dict[str, Callable[[], Iterable[str]]] = {
        "STUDY": lambda: _questions(),
        "SWEEP": lambda: (path.name for path in (folder / "runs" / "studies").glob("*/")),
        "RUN": lambda: (path.name for path in (folder / "runs").glob("v[0-9]*-*/")),
        "CLAIM": lambda: resolve_name("aimv2.ablations.claims:CLAIMS"),
    }
    return (name for kind in word.strip("[]").split("|") if kind in known for name in sorted(known[kind]()))


def _questions() -> Iterable[str]:
    names: Iterable[str] = resolve_name(VALUES["sweep"])()
    return names


def _values(key: str, shown: str, takes_paths: bool) -> Iterable[str]:
    """Return the values of a key.

    Args:
        shown: the value in the help: ``a|b``, ``true``, or an example.
    """
    if key in VALUES:
        found = resolve_name(VALUES[key])
        return list(found() if callable(found) else found)
    if "|" in shown:
        return shown.split("|")
    if shown in ("true", "false"):
        return ["true", "false"]
    kind = dict(_paths()).get(key) if takes_paths else None
    if kind is bool:
        return ["true", "false"]
    return [str(value) for value in get_args(kind)] if get_origin(kind) is Literal else []


def _paths() -> Iterator[tuple[str, Any]]:
    """Yield the paths of the values of a run, with their types."""
    from aimv2.config.run_config import RunConfig  # here, because commands complete faster without it

    def walk(kind: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        for field in dataclasses.fields(kind):
            inner = [one for one in (field.type, *get_args(field.type)) if dataclasses.is_dataclass(one)]
            if inner:
                yield from walk(inner[0], f"{prefix}{field.name}.")
            else:
                yield prefix + field.name, field.type

    return walk(RunConfig, "")
