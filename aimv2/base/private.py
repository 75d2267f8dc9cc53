"""What says on which machine and by whom something was made: a home folder, names of hosts, the name of a user."""

import getpass
import os
import platform
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

SHORTEST = 3  # letters of a name that is searched for
SEPARATED = rb"(?<![\w.-])%s(?![\w-])"


@dataclass(frozen=True)
class PrivateNames:
    """Names that must not be in what is published.

    Attributes:
        others: names of hosts and users. Those that are words of ``common`` say nothing, such as root, and a text
            would have them anyway.
    """

    home: str  # a folder; below it are the paths of a user
    others: tuple[str, ...]
    common: str = ""  # a text, such as the source code

    @classmethod
    def here(cls, hosts: Collection[str] = (), common: str = "") -> Self:
        """Return those of this process, and these hosts."""
        try:
            users = [getpass.getuser()]
        except (KeyError, OSError):  # it has none, as in some containers
            users = []
        every = [*hosts, platform.node(), *users, os.environ.get("SUDO_USER", "")]
        names = dict.fromkeys(part for name in every for part in (name, name.partition(".")[0]))
        return cls(str(Path.home()), tuple(names), common)

    @cached_property
    def _patterns(self) -> dict[str, re.Pattern[bytes]]:
        long = [name for name in self.others if len(name) >= SHORTEST]
        common = self.common.encode()
        patterns = {name: re.compile(SEPARATED % re.escape(name.encode()), re.IGNORECASE) for name in long}
        found = {name: pattern for name, pattern in patterns.items() if not pattern.search(common)}
        if len(self.home) > 1:  # not the root of all files
            found[self.home] = re.compile(SEPARATED % re.escape(self.home.encode()))
        return found

    def found_in(self, content: bytes) -> str:
        """Return the first of the names that a text has; empty if it has none."""
        return next((name for name, pattern in self._patterns.items() if pattern.search(content)), "")
