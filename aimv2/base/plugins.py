"""Plug-ins: Python files, and modules of installed packages, that add to what exists by a name.

A plug-in is a module that adds to registries when it is imported. Ours are built in, so that a code snapshot needs no
installation to find them.
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from aimv2.base.errors import UsageError, unknown
from aimv2.base.files import digest_of

GROUP = "aimv2.plugins"  # of entry points, each the name of a module
Item = TypeVar("Item")


@dataclass(frozen=True)
class Plugin:
    """A module that adds to registries.

    Attributes:
        name: in messages: the name of its file or folder.
        path: of the file, or of the folder with its ``__init__.py``.
        digest: of the content of its files, 12 hex digits.
    """

    name: str
    path: Path
    digest: str
    module: ModuleType = field(compare=False, repr=False)


_loaded: dict[Path, Plugin] = {}
_loading: list[Plugin] = []  # the one whose module is imported at this moment


class Registry(Mapping[str, Item], Generic[Item]):
    """What exists of one kind, by its name: ours, and what plug-ins have added.

    Args:
        kind: in errors, such as ``metric``.
        built_in: ours.
    """

    def __init__(self, kind: str, built_in: Mapping[str, Item]) -> None:
        self.kind = kind
        self._items = dict(built_in)
        self._plugins: dict[str, Plugin] = {}

    def __getitem__(self, name: str) -> Item:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def get_known(self, name: str) -> Item:
        """Return the item of this name; an unknown name is a UsageError."""
        if name not in self._items:
            raise unknown(self.kind, name, self._items)
        return self._items[name]

    def add(self, name: str, item: Item) -> Item:
        """Add an item, when a plug-in is imported, and return it.

        Raises:
            UsageError: the name is taken.
        """
        if name in self._items:
            owner = self._plugins.get(name)
            raise UsageError(f"the {self.kind} {name!r} exists already, {f'in {owner.name}' if owner else 'built in'}")
        self._items[name] = item
        if _loading:
            self._plugins[name] = _loading[-1]
        return item

    def plugin_of(self, name: str) -> Plugin | None:
        """Return the plug-in that added the item of this name; None if it is ours."""
        return self._plugins.get(name)


def load(path: Path) -> Plugin:
    """Import a plug-in, once, and return it.

    Args:
        path: a Python file, or a folder with an ``__init__.py`` if it has several.

    Raises:
        UsageError: it does not exist, or its import fails.
    """
    path = path.resolve()
    if path not in _loaded:
        file = path / "__init__.py" if path.is_dir() else path
        if not file.is_file() or file.suffix != ".py":
            raise UsageError(f"plug-in {path}: it is no Python file, and no folder with an __init__.py")
        digest = _digest(path)
        name = f"aimv2_plugin_{digest}_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None, f"{file} is a Python file"
        assert spec.loader is not None, f"{file} is a Python file"
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        _execute(Plugin(path.name, path, digest, module), spec.loader.exec_module)
    return _loaded[path]


def load_installed() -> list[Plugin]:
    """Import the plug-ins of installed packages, each once, and return them.

    Raises:
        UsageError: an import fails.
    """
    return [_load_module(entry) for entry in entry_points(group=GROUP)]


def _load_module(entry: EntryPoint) -> Plugin:
    try:
        spec = importlib.util.find_spec(entry.module)
    except ImportError as error:
        raise UsageError(f"plug-in {entry.name} ({entry.value}) cannot be loaded: {error}") from error
    if spec is None or spec.origin is None:
        raise UsageError(f"plug-in {entry.name}: there is no module {entry.module}")
    file = Path(spec.origin).resolve()
    path = file.parent if file.name == "__init__.py" else file
    if path not in _loaded:
        plugin = Plugin(path.name, path, _digest(path), importlib.util.module_from_spec(spec))
        _execute(plugin, lambda module: importlib.import_module(entry.module))
    return _loaded[path]


def _digest(path: Path) -> str:
    return digest_of(path) if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _execute(plugin: Plugin, execute: Callable[[ModuleType], object]) -> None:
    _loading.append(plugin)
    try:
        execute(plugin.module)
    except Exception as error:  # of another author's code
        raise UsageError(f"plug-in {plugin.path} cannot be loaded: {type(error).__name__}: {error}") from error
    finally:
        _loading.pop()
    _loaded[plugin.path] = plugin
