"""Plug-ins: Python files, and folders with an ``__init__.py``, that add to what exists by a name.

A plug-in is a module that adds to registries when it is imported. Ours are built in, so that a code snapshot needs no
installation to find them. A process finds plug-ins when it first looks for a name that is not built in: those that a
command was given (``using``), which the processes that it starts inherit. Code that runs from a snapshot
(sweeps/freeze.py) finds those of the snapshot and no others.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Generic, TypeVar, cast

from aimv2.base.errors import UsageError, did_you_mean, unknown
from aimv2.base.files import digest_of, read_json, write_json

VARIABLE = "AIMV2_PLUGINS"  # of the environment: a JSON list of the paths that a command was given
PACKAGE = Path(__file__).parents[1]
FROZEN = "frozen.json"  # beside the packages of a code snapshot
FOLDER = "plugins"  # of a code snapshot
LISTED = "plugins.json"  # in that folder
AT = "@"  # between name and digest
Item = TypeVar("Item")


@dataclass(frozen=True)
class Plugin:
    """A module that adds to registries."""

    name: str  # of its file or folder
    path: Path  # of the file, or of the folder with its ``__init__.py``
    digest: str  # of the content of its files, 12 hex digits

    @property
    def id(self) -> str:
        """Name and digest, as configs and records have them."""
        return f"{self.name}{AT}{self.digest}"


_registries: list["Registry[Any]"] = []
_loaded: list[Plugin] = []
_loading: list[Plugin] = []  # the one whose module is imported at this moment
_state = {"is_ready": False}  # True once this process has those that it was started with
_to_forget: list[Callable[[], object]] = []  # what the contexts of ``using`` call when they end, the last one first
_lock = threading.RLock()


class Registry(Mapping[str, Item], Generic[Item]):
    """What exists of one kind, by its name: ours, and what plug-ins have added.

    A built-in text is ``module:name`` of an item that is imported when it is first read. ``check`` refuses an item of a
    plug-in, given its name.
    """

    def __init__(
        self,
        kind: str,
        built_in: Mapping[str, Item | str] | None = None,
        check: Callable[[str, Item], object] = lambda name, item: None,
    ) -> None:
        self.kind = kind
        self.built_in = frozenset(built_in or ())
        self._items: dict[str, Item | str] = dict(built_in or {})
        self._plugins: dict[str, Plugin] = {}
        self._check = check
        _registries.append(self)

    def __getitem__(self, name: str) -> Item:
        if name not in self._items:
            ready()
        item = self._items[name]
        if isinstance(item, str):
            item = self._items[name] = cast(Item, resolve_name(item))
        return item

    def __contains__(self, name: object) -> bool:
        if name not in self._items:
            ready()
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        ready()
        return iter(list(self._items))

    def __len__(self) -> int:
        ready()
        return len(self._items)

    def get_known(self, name: str) -> Item:
        """Return the item of this name; an unknown name is a UsageError."""
        if name not in self:
            raise unknown(self.kind, name, self)
        return self[name]

    def add(self, name: str, item: Item) -> Item:
        """Add an item, when a plug-in is imported, and return it; a taken name or a refused item is a UsageError."""
        if name in self._items:
            owner = self._plugins.get(name)
            raise UsageError(f"the {self.kind} {name!r} exists already, {f'in {owner.path}' if owner else 'built in'}")
        self._check(name, item)
        self._items[name] = item
        if _loading:
            self._plugins[name] = _loading[-1]
        return item

    def plugin_of(self, name: str) -> Plugin | None:
        """Return the plug-in that added the item of this name; None if it is ours, or unknown."""
        return self._plugins.get(name) if name in self else None

    def _forget(self, plugin: Plugin) -> None:
        for name in [name for name, owner in self._plugins.items() if owner == plugin]:
            del self._items[name], self._plugins[name]


def load(path: Path) -> Plugin:
    """Import a plug-in, once, and return it: a Python file, or a folder with an ``__init__.py``."""
    path = path.expanduser().resolve()
    if not path.exists():
        near = did_you_mean(path.name, (file.name for file in path.parent.glob("*.py")))
        raise UsageError(f"plug-in {path}: there is no such file.{near}")
    if not _module_file(path).is_file() or _module_file(path).suffix != ".py":
        raise UsageError(f"plug-in {path}: it is not a Python file, nor a folder with an __init__.py")
    return _load(Plugin(path.name, path, _digest(path)))


def ready() -> None:
    """Load the plug-ins that this process was started with, once: those of the code snapshot that it runs from, or of
    the command that started it."""
    with _lock:
        if _state["is_ready"]:
            return
        _state["is_ready"] = True  # before, since plug-ins read registries
        try:
            if (PACKAGE.parent / FROZEN).exists():
                for copy in frozen(PACKAGE.parent):
                    _load_copy(copy)
            else:
                for path in json.loads(os.environ.get(VARIABLE, "[]")):
                    load(Path(path))
        except BaseException:
            _state["is_ready"] = False
            raise


@contextmanager
def using(paths: Sequence[Path]) -> Iterator[list[Plugin]]:
    """Have these plug-ins within the context, here and in processes that are started there."""
    before, was_ready, environment = list(_loaded), _state["is_ready"], os.environ.get(VARIABLE)
    num_learned = len(_to_forget)
    try:
        if paths:
            ready()
        given = [load(path) for path in paths]
        _pass_on(given)
        yield given
    finally:
        for plugin in [plugin for plugin in _loaded if plugin not in before]:
            _unload(plugin)
        while len(_to_forget) > num_learned:
            _to_forget.pop()()
        _state["is_ready"] = was_ready
        os.environ.pop(VARIABLE, None)
        if environment is not None:
            os.environ[VARIABLE] = environment


def _pass_on(given: Iterable[Plugin]) -> None:
    """Have processes that are started from now on load these plug-ins too."""
    if paths := [str(plugin.path) for plugin in given]:
        inherited = [*json.loads(os.environ.get(VARIABLE, "[]")), *paths]
        os.environ[VARIABLE] = json.dumps(list(dict.fromkeys(inherited)))


def until_end(forget: Callable[[], object]) -> None:
    """Have this called when the innermost context of ``using`` ends, with which a command forgets what it learned."""
    _to_forget.append(forget)


def loaded() -> list[Plugin]:
    """Return all plug-ins that this process has."""
    ready()
    return list(_loaded)


def check_loaded(ids: Iterable[str], user: str, *, any_content: bool = False) -> None:
    """Refuse what needs a plug-in (``Plugin.id``) that this process lacks, or has with other content; ``user`` is what
    needs it, at the beginning of the sentence."""
    known = {plugin.name: plugin for plugin in loaded()}
    needed = [plugin_id.rpartition(AT)[::2] for plugin_id in dict.fromkeys(ids)]
    if missing := [(name, digest) for name, digest in needed if name not in known]:
        named = " and ".join(f"{name} ({digest})" for name, digest in missing)
        paths = ",".join(f"PATH/{name}" for name, _ in missing)
        raise UsageError(f"{user} needs the plug-in{'s' * (len(missing) > 1)} {named}; type plugins=[{paths}]")
    for name, digest in [] if any_content else needed:
        if known[name].digest != digest:
            raise UsageError(
                f"{user} needs the plug-in {name} with the content {digest}, and {known[name].path} has"
                f" {known[name].digest}: it was edited"
            )


def freeze(folder: Path) -> None:
    """Copy all plug-ins of this process into the folder of a code snapshot."""
    listed = []
    for plugin in loaded():
        copy = folder / FOLDER / plugin.digest / plugin.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if plugin.path.is_dir():
            shutil.copytree(plugin.path, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(plugin.path, copy)
        if _digest(copy) != plugin.digest:
            raise UsageError(f"plug-in {plugin.path} was edited while the launch was planned; launch again")
        listed.append({"name": plugin.name, "digest": plugin.digest})
    if listed:
        write_json(folder / FOLDER / LISTED, listed)


def frozen(snapshot: Path) -> list[Plugin]:
    """Return the plug-ins of a code snapshot."""
    folder = snapshot / FOLDER
    if not (folder / LISTED).exists():
        return []
    return [
        Plugin(about["name"], folder / about["digest"] / about["name"], about["digest"])
        for about in read_json(folder / LISTED)
    ]


def load_from_snapshots(ids: Iterable[str], snapshots: Iterable[Path]) -> None:
    """Load plug-ins (``Plugin.id``) from the first code snapshot that has them, unless this process has one of the same
    name; those that no snapshot has are left out."""
    known = {plugin.name for plugin in loaded()}
    wanted = [plugin_id for plugin_id in ids if plugin_id.rpartition(AT)[0] not in known]
    copies = {plugin.id: plugin for snapshot in reversed([*snapshots] if wanted else []) for plugin in frozen(snapshot)}
    for copy in (copies[plugin_id] for plugin_id in wanted if plugin_id in copies):
        if copy.name not in known:
            known.add(copy.name)
            _pass_on([_load_copy(copy)])


def _load_copy(copy: Plugin) -> Plugin:
    """Load a plug-in of a snapshot."""
    if not copy.path.exists() or _digest(copy.path) != copy.digest:
        raise UsageError(f"plug-in {copy.path} was changed in the snapshot; delete the snapshot and launch again")
    return load(copy.path)


def _load(plugin: Plugin) -> Plugin:
    """Import a plug-in, unless one of the same name and content is loaded, and return the one that is."""
    with _lock:
        for other in _loaded:
            if other.id == plugin.id:
                return other
            if other.name == plugin.name:
                raise UsageError(
                    f"plug-in {plugin.path}: {other.path} is loaded already, and runs know plug-ins by the names of"
                    " their files; rename one of them"
                )
        writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # nothing beside an author's file
        _loading.append(plugin)
        try:
            _import(plugin)
            if _digest(plugin.path) != plugin.digest:
                raise UsageError("it was edited at this moment")
        except (Exception, SystemExit) as error:  # of another author's code
            _unload(plugin)
            kind = "" if isinstance(error, UsageError) else f"{type(error).__name__}: "
            raise UsageError(f"plug-in {plugin.path} cannot be loaded: {kind}{error}") from error
        finally:
            _loading.pop()
            sys.dont_write_bytecode = writes
        _loaded.append(plugin)
        return plugin


def _import(plugin: Plugin) -> None:
    spec = importlib.util.spec_from_file_location(_module_name(plugin), _module_file(plugin.path))
    assert spec is not None, f"{plugin.path} is a Python file"
    assert spec.loader is not None, f"{plugin.path} is a Python file"
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)


def _unload(plugin: Plugin) -> None:
    for registry in _registries:
        registry._forget(plugin)
    if plugin in _loaded:
        _loaded.remove(plugin)
    top = _module_name(plugin)
    for name in [name for name in sys.modules if name == top or name.startswith(f"{top}.")]:
        del sys.modules[name]


def _module_file(path: Path) -> Path:
    return path / "__init__.py" if path.is_dir() else path


def _module_name(plugin: Plugin) -> str:
    """Return the name of a file's module, which is the same in a snapshot, for pickles."""
    return f"aimv2_plugin_{plugin.digest}_{plugin.path.stem}"


def _digest(path: Path) -> str:
    return digest_of(path) if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()[:12]
