"""``python -m aimv2 data describe``: write the description of data from what is seen in them, and index them."""

from collections.abc import Sequence
from pathlib import Path

from aimv2.base.errors import RunFailedError, UsageError
from aimv2.base.files import write_text
from aimv2.config.arguments import HELP
from aimv2.config.data_config import is_described
from aimv2.config.options import read_options
from aimv2.datasets.description import SUFFIXES
from aimv2.tools.data.index import index_command
from aimv2.tools.data.options import DescribeOptions, usage_of
from aimv2.tools.data.seen import see
from aimv2.tools.data.wording import described


def describe_command(arguments: Sequence[str]) -> int:
    """Write a description, print it, and index the data. A description that cannot be indexed is not kept.

    Raises:
        UsageError: nothing is known at the path, several things are, the description exists, or the data cannot be
            indexed.
        RunFailedError: a process was killed.
    """
    if not arguments or HELP & set(arguments):
        print(usage_of("describe"), end="")
        return 0 if arguments else 2
    if "://" in arguments[0]:
        raise UsageError(
            f"{arguments[0]}: describe reads files of this host; for others write shards: URL (docs/remote-data.md)"
        )
    path, options = Path(arguments[0]).expanduser().absolute(), read_options(DescribeOptions, arguments[1:])
    target = Path(options.to or f"{path.name.partition('.')[0] or 'data'}.yaml")
    if not is_described(str(target)):
        raise UsageError(f"to={str(target)!r} must end in {' or '.join(SUFFIXES)}")
    if target.exists():
        raise UsageError(f"{target} exists; choose another name with to=, or delete it")
    text = described(see(path), target)
    write_text(target, text)
    print(text, end="", flush=True)
    if options.index:
        try:
            index_command([str(target)])
        except (UsageError, RunFailedError):
            target.unlink()
            raise
    print(f"wrote {target}")
    return 0
