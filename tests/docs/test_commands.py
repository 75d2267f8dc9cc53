"""The commands of README and of every page, in this process: each parses and plans, or shows its help.

Commands of pages on data in files, post-training, publishing, plug-ins and other models, and those of tutorials, are
followed with their files and runs in the tests of these names. The others become cheap ones as
``tests.helpers.pages.cheap`` says, and:

- ``make TARGET`` names a target of the Makefile, and pytest existing tests;
- ``manage.py`` looks into an empty folder, where it may find no sweep or run of that name;
- a search, a report, verify, weights and bench show their help, which names every key that is typed.
"""

import re
import shlex

import pytest

from aimv2.config.program import value_at
from aimv2.config.recipes.scales import demo
from aimv2.run.price import read_limits
from tests.helpers.marks import exhaustive
from tests.helpers.pages import PAGES, ROOT, cheap, commands

OWN_TESTS = ("data.md", "large-data.md", "post-training.md", "publish.md", "extend.md", "another-model.md")
OWN_SOURCE = "data.sources=[digits.yaml]"
COMMANDS = [
    words
    for page in PAGES
    if page.name not in OWN_TESTS and page.parent.name != "tutorials"
    for words in commands(page)
    if OWN_SOURCE not in words
]
CHEAP = {shlex.join(cheap(words)): cheap(words) for words in COMMANDS}
FIRST = {shlex.join(cheap(words)) for words in commands(ROOT / "README.md")}
CASES = [  # a plan at equal FLOPs reads thousands of captions first
    pytest.param(words, id=name) if name in FIRST and "sweep.equal=flops" not in words else exhaustive(words, id=name)
    for name, words in CHEAP.items()
]
LIMITS = {word for words in COMMANDS for word in words if word.startswith("limit=")}


@pytest.mark.parametrize("words", CASES)
def test_command_parses_and_plans(words, in_process, tmp_path, cache_dir):
    if words[0] == "make":
        targets = [word for word in words[1:] if "=" not in word]
        assert all(re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE) for name in targets)
    elif "pytest" in words:
        assert all((ROOT / word).exists() for word in words if word.startswith("tests"))
    elif "sweeps/manage.py" in words:
        status, output = in_process([*words[1:], f"runs_dir={tmp_path}"])
        assert status == 0 or str(tmp_path) in output, output
    elif "dry_run=true" in words or "cost" in words:
        more = [f"data.cache_dir={cache_dir}"] if "dry_run=true" in words else []
        status, output = in_process([*words[1:], *more])
        assert (status, "training FLOPs" in output) == (0, True), output
    else:
        status, shown = in_process([*words[1:], "--help"])
        assert status == 0, shown
        for key in [word.partition("=")[0] for word in words if "=" in word]:
            assert re.search(rf"(^|\W){re.escape(key)}=", shown) or value_at(demo(), key) is not None


@pytest.mark.parametrize("limit", sorted(LIMITS))
def test_limit_is_read(limit):
    assert read_limits(limit.removeprefix("limit="))
