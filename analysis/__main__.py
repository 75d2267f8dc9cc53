"""``python -m analysis SWEEP [runs_dir] [reports_dir]``: build a study's report again from its runs."""

import sys
from pathlib import Path

from ablations.catalogue import STUDIES
from ablations.request import read_request
from aimv2.cli import guarded
from aimv2.errors import UsageError
from analysis.report import build

USAGE = "usage: python -m analysis SWEEP [runs_dir=runs] [reports_dir=reports]"


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{USAGE}\nsweeps: {', '.join(STUDIES)}")
        return 0 if arguments else 2
    folders = {"runs_dir": "runs", "reports_dir": "reports"}
    for argument in arguments[1:]:
        key, _, value = argument.partition("=")
        if key not in folders or not value:
            raise UsageError(f"cannot read {argument!r}. {USAGE}")
        folders[key] = value
    runs_dir = Path(folders["runs_dir"])
    print(build(read_request(runs_dir, arguments[0], STUDIES), runs_dir, Path(folders["reports_dir"])))
    return 0


sys.exit(guarded(main, sys.argv[1:]))
