"""From what is typed on a command line to checked values. Hydra stays in this file.

A command line is a list of ``key=value`` in Hydra's grammar. Some keys choose a whole group (``scale=demo``); the
others reach into the composed config (``model.encoder.width=128``). A value is taken as it stands: nothing in it is
looked up or evaluated.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aimv2.config.run_config import RunConfig, flatten, from_dict, to_dict
from aimv2.config.scales import SCALES
from aimv2.errors import UsageError, given_twice, unknown

RUN_KEYS = tuple(field.name for field in dataclasses.fields(RunConfig))
# What a part is called by: whoever writes objective=clip means objective.name=clip.
NAMED_BY = {"objective": "name", "prefix": "law"}


def compose(
    overrides: Sequence[str],
    *,
    defaults: Mapping[str, str],
    values: Mapping[str, Any] | None = None,
    groups: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
    conf_dir: Path | None = None,
) -> dict[str, Any]:
    """Compose a config and apply the overrides.

    Args:
        defaults: the groups and what is chosen of each unless an override says otherwise; ``scale``, whose choices are
            the recipes, is always there.
        values: further top-level keys with their defaults.
        groups: choices per group, by name, for groups that are made in Python.
        conf_dir: where the other groups' YAML files are, a folder a group; None if there are none.

    Raises:
        UsageError: an unknown group choice or key, a key that is there twice or names a whole part, or text that is
            not a plain ``key=value``.
    """
    store = ConfigStore.instance()
    for name, recipe in SCALES.items():
        store.store(group="scale", name=name, node=to_dict(recipe()), package="_global_")
    for group, choices in (groups or {}).items():
        for name, node in choices.items():
            store.store(group=group, name=name, node=dict(node))
    defaults = {"scale": "demo", **defaults}
    # "_self_" first: the groups' values come on top. A recipe repeats its own name under the key "scale".
    root = {"defaults": ["_self_", *({group: choice} for group, choice in defaults.items())], **(values or {})}
    store.store(name="root", node=root)

    with _hydra(conf_dir):
        chosen, parsed = [], _parsed(overrides)
        for text, key, value in parsed:
            if key in defaults:
                allowed = _choices(store, key, conf_dir)
                if value not in allowed:
                    raise unknown(key, str(value), allowed)
                chosen.append(text)
        known = _composed(chosen)
        for text, key, value in parsed:
            if key in defaults:
                continue
            if not _has(known, key):
                raise unknown("key", key, _near(known, key))
            if isinstance(part := _at(known, key), Mapping):
                raise _whole_part(text, key, value, part)
        return _composed(list(overrides))


def _hydra(conf_dir: Path | None) -> AbstractContextManager[None]:
    if conf_dir is None:
        return initialize(config_path=None, version_base="1.3")
    return initialize_config_dir(config_dir=str(conf_dir.resolve()), version_base="1.3")


def run_config(values: Mapping[str, Any]) -> RunConfig:
    """The run's part of a composed config, checked."""
    return from_dict({key: values[key] for key in RUN_KEYS if key in values})


def _parsed(overrides: Sequence[str]) -> list[tuple[str, str, Any]]:
    parsed: dict[str, tuple[str, str, Any]] = {}
    for text in overrides:
        if "${" in text:
            raise UsageError(f"cannot use {text!r}: a value is taken as it stands, and ${{...}} is not looked up")
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException as error:
            raise UsageError(f"cannot read {text!r}: arguments have the form key=value") from error
        is_plain = not (override.is_add() or override.is_force_add() or override.is_delete())
        if override.is_sweep_override() or not is_plain or "=" not in text:
            raise UsageError(f"cannot use {text!r}: one plain key=value for one run; arms and seeds belong to a sweep")
        key = override.key_or_group
        if key in parsed:
            raise given_twice(key)
        parsed[key] = (text, key, override.value())
    return list(parsed.values())


def _whole_part(text: str, key: str, value: Any, part: Mapping[str, Any]) -> UsageError:
    """The error for an override of a part of the config, which has values of its own."""
    if key in NAMED_BY and isinstance(value, str):
        return UsageError(
            f"cannot use {text!r}: {key} is a part with values of its own; say {key}.{NAMED_BY[key]}={value}"
        )
    paths = [f"{key}.{name}" + ".…" * isinstance(value, Mapping) for name, value in part.items()]
    return UsageError(
        f"cannot use {text!r}: {key} is a part with values of its own, each set by its path: {', '.join(paths)}"
    )


def _composed(overrides: list[str]) -> dict[str, Any]:
    try:
        composed = OmegaConf.to_container(hydra_compose(config_name="root", overrides=overrides), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(str(error).splitlines()[0]) from error
    assert isinstance(composed, dict)
    return {str(key): value for key, value in composed.items()}


def _choices(store: ConfigStore, group: str, conf_dir: Path | None) -> list[str]:
    stored = store.list(group) if group in store.repo else []
    files = [] if conf_dir is None else [path.name for path in (conf_dir / group).glob("*.yaml")]
    return sorted({name.removesuffix(".yaml") for name in [*stored, *files]})


def _has(config: Mapping[str, Any], key: str) -> bool:
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


def _at(config: Mapping[str, Any], key: str) -> Any:
    """The value of a key that exists."""
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value


def _near(config: Mapping[str, Any], key: str) -> list[str]:
    """The keys beside the mistaken one, in the deepest group of it that exists."""
    owner, _, _ = key.rpartition(".")
    while owner and not _has(config, owner):
        owner = owner.rpartition(".")[0]
    value = _at(config, owner) if owner else config
    siblings = value if isinstance(value, Mapping) else {}
    return [f"{owner}.{name}" if owner else str(name) for name in siblings] or list(flatten(config))
