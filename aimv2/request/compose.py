"""Composition of a config from command-line overrides. Only this file uses Hydra, for its grammar.

A command line is a list of ``key=value`` in Hydra's grammar. Some keys choose a whole group (``scale=demo``,
``mixture=paper``); the others set one value of the composed config (``model.encoder.width=128``). Values are literal:
interpolation is refused. A run that starts from a finished one (``start.weights=``) has the config of that run.
"""

import copy
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from aimv2.base.errors import MAX_SHOWN, UsageError, given_twice, unknown
from aimv2.config.program import PARAMETERS, flattened
from aimv2.config.recipes.post_training import OWN as NO_RECIPE
from aimv2.config.recipes.post_training import RECIPES
from aimv2.config.recipes.scales import OWN, PRESETS, SCALES, check_mixture
from aimv2.config.run_config import RunConfig
from aimv2.definitions.metrics import METRICS
from aimv2.definitions.objectives import objective
from aimv2.request.origin import continued, read_origin, with_sizes

RUN_KEYS = tuple(field.name for field in dataclasses.fields(RunConfig))
DEFAULT_SCALE = "demo"
MEANT = {"lr": "optimizer.peak_lr", "learning_rate": "optimizer.peak_lr"}  # as others name it, by the last name
MULTIRUN = ("-m", "--multirun")  # of Hydra's own command line
# The key that names a part: objective=clip is meant as objective.name=clip.
NAMED_BY = {"objective": "name", "prefix": "law"}
CONFIG_KEY = "config="  # of a file of overrides
PLAIN = re.compile(r"[A-Za-z0-9_./%@?|-]+")  # needs no quotes in the grammar; with 1e-3, which YAML reads as text
READ_BEFORE = ("config", "debug", "limit", "plugins")  # keys of commands that a config is composed without


def compose(
    overrides: Sequence[str],
    *,
    defaults: Mapping[str, str],
    values: Mapping[str, Any] | None = None,
    groups: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
    has_run: bool = True,
) -> dict[str, Any]:
    """Compose a config and apply the overrides.

    ``defaults`` has the default choice of each group: of ``groups``, and of the run's ``scale``, ``recipe`` and
    ``mixture``, which ``has_run=False`` leaves out with all values of a run. ``values`` are further top-level keys.
    """
    parsed = _parsed(overrides)
    typed = {key: value for _, key, value in parsed}
    groups = groups or {}
    named: dict[str, Iterable[str]] = dict(groups)
    if has_run:
        defaults = {"scale": DEFAULT_SCALE, "recipe": NO_RECIPE, "mixture": OWN, **defaults}
        named |= {"scale": SCALES, "recipe": (NO_RECIPE, *RECIPES), "mixture": (OWN, *PRESETS)}
    for key in typed.keys() & defaults:
        if typed[key] not in (allowed := sorted(named[key])):
            raise unknown(key, str(typed[key]), allowed)
    chosen = {key: str(typed.get(key, choice)) for key, choice in defaults.items()}
    config: dict[str, Any] = dict(values or {})
    if has_run:
        config |= _base(typed, chosen["scale"]).to_dict() | {name: chosen[name] for name in ("recipe", "mixture")}
        if preset := PRESETS.get(chosen["mixture"]):
            config["data"] |= {"weights": list(preset.weights), "dense_fractions": list(preset.dense_fractions)}
    config |= {group: copy.deepcopy(dict(choices[chosen[group]])) for group, choices in groups.items()}
    known = flattened(config)
    for text, key, value in parsed:
        if key in defaults:
            continue
        is_parameter = has_run and key.startswith(PARAMETERS) and "." not in key.removeprefix(PARAMETERS)
        if key not in known and not is_parameter:  # those of a plug-in are checked by run_config
            raise _not_a_value(text, key, value, known)
        *parts, name = key.split(".")
        reduce(getitem, parts, config)[name] = value
    return config


def run_config(values: Mapping[str, Any]) -> RunConfig:
    """Build the RunConfig from the run's part of a composed config."""
    check_mixture(values["mixture"], values["data"]["sources"])
    config = RunConfig.from_dict({key: values[key] for key in RUN_KEYS if key in values})
    objective(config.objective.name)  # refuses an unknown one
    config.prefix.all_parameters()
    for name in config.evaluation.metrics:
        METRICS.get_known(name)
    return config


def base_run(values: Mapping[str, Any]) -> RunConfig:
    """Return the run that the overrides of a composed config have changed."""
    weights, recipe = values["start"]["weights"], values["recipe"]
    origin = None if weights is None else read_origin(str(weights))
    if origin is None and recipe != NO_RECIPE:
        raise UsageError(f"recipe={recipe} starts from given weights; type start.weights=PATH")
    if origin is None:
        run = SCALES[values["scale"]]()
    else:
        run = continued(origin) if origin.run else with_sizes(origin, SCALES[values["scale"]]())
    return run if recipe == NO_RECIPE else RECIPES[recipe](run)


def _base(typed: Mapping[str, Any], scale: str) -> RunConfig:
    """Return the run that these overrides change, by the choices among them and the scale."""
    weights = typed.get("start.weights")
    if weights is not None and read_origin(str(weights)).run is not None and "scale" in typed:
        raise UsageError(f"scale={typed['scale']} has no effect: a run that starts from a finished one has its config")
    chosen = {"scale": scale, "recipe": typed.get("recipe", NO_RECIPE)}
    return base_run({**chosen, "start": {"weights": weights}})


def _parsed(overrides: Sequence[str]) -> list[tuple[str, str, Any]]:
    """Return the text, key and value of each override."""
    parsed: dict[str, tuple[str, str, Any]] = {}
    for text in overrides:
        if text in MULTIRUN:
            raise UsageError(
                f"cannot use {text!r}: nothing is needed to run several values; sweep=NAME runs a study, whose arms and"
                " seeds are sweep.arms=[a,b] and sweep.seeds=8"
            )
        if "${" in text:
            raise UsageError(f"cannot use {text!r}: values are literal, and ${{...}} is not supported")
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException as error:
            raise UsageError(f"cannot read {text!r}: arguments have the form key=value") from error
        is_plain = not (override.is_add() or override.is_force_add() or override.is_delete() or override.package)
        if override.is_sweep_override() or not is_plain or "=" not in text:
            raise UsageError(f"cannot use {text!r}: one plain key=value per argument; a study sets arms and seeds")
        key = override.key_or_group
        if key in parsed:
            raise given_twice(key)
        parsed[key] = (text, key, override.value())
    return list(parsed.values())


def _not_a_value(text: str, key: str, value: Any, known: Iterable[str]) -> UsageError:
    """Return the error for an override of a whole part, or of a key that is not among the known paths of values."""
    if inside := _inside(key, known):
        if key in NAMED_BY and isinstance(value, str):
            return UsageError(f"cannot use {text!r}: {key} is a group of keys; write {key}.{NAMED_BY[key]}={value}")
        return UsageError(f"cannot use {text!r}: {key} is a group of keys, each set by its path: {', '.join(inside)}")
    if meant := _ending_alike(key, known):
        return UsageError(f"unknown key {key!r}. Did you mean {' or '.join(map(repr, meant))}?")
    group = key
    while group and not inside:
        group = group.rpartition(".")[0]
        inside = _inside(group, known)
    read_before = () if group else READ_BEFORE
    return unknown("key", key, [*read_before, *(name.removesuffix(".…") for name in inside)])


def _ending_alike(key: str, known: Iterable[str]) -> list[str]:
    """Return the known paths that end with a key, or else with its last name, such as that of ``batch_size``."""
    paths, name = list(known), key.split(".")[-1]
    if name in MEANT:
        return [MEANT[name]]
    whole, last = ([path for path in paths if path.endswith(f".{end}")] for end in (key, name))
    return (whole or last)[:MAX_SHOWN]


def _inside(group: str, known: Iterable[str]) -> list[str]:
    """Return the paths one level below a group, or the top level if it is empty; ``.…`` ends those of groups."""
    start = f"{group}." if group else ""
    names = [path.removeprefix(start).partition(".") for path in known if path.startswith(start)]
    return list(dict.fromkeys(f"{start}{name}{'.…' if dot else ''}" for name, dot, _ in names))


def with_file(words: Sequence[str]) -> list[str]:
    """Return the words of a command line with those of its ``config=FILE`` in its place; what is typed counts.

    Keys of the file are nested or paths: ``optimizer: {peak_lr: 1e-3}`` or ``optimizer.peak_lr: 1e-3``.
    """
    files = [word.removeprefix(CONFIG_KEY) for word in words if word.startswith(CONFIG_KEY)]
    if len(files) > 1:
        raise given_twice("config")
    typed = {word.partition("=")[0] for word in words}
    return [
        one
        for word in words
        for one in (_words(Path(word.removeprefix(CONFIG_KEY)), typed) if word.startswith(CONFIG_KEY) else [word])
    ]


def _words(path: Path, typed: set[str]) -> Iterator[str]:
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"config={path} cannot be read: {error}".replace("\n", " ")) from error
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        raise UsageError(f"config={path} has no keys with values, such as optimizer.peak_lr: 1e-3")
    yield from (f"{key}={_value(value)}" for key, value in flattened(values).items() if key not in typed)


def _value(value: Any) -> str:
    """Return a value in the grammar of overrides."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(_value, value))}]"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    if PLAIN.fullmatch(text):
        return text
    # Of the grammar: backslashes are doubled where a quote or the end follows, and quotes are escaped.
    escaped = re.sub(r"(\\*)('|$)", lambda match: 2 * match[1] + ("\\'" if match[2] else ""), text)
    return f"'{escaped}'"
