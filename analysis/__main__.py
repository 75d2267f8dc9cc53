"""``python -m analysis SWEEP [runs_dir] [reports_dir]``: build a study's report again from its runs."""

import sys
from pathlib import Path

from ablations.catalogue import STUDIES
from ablations.study import read_launched
from aimv2.cli import guarded
from aimv2.errors import UsageError, unknown
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
    if arguments[0] not in STUDIES:
        raise unknown("sweep", arguments[0], STUDIES)
    study, runs_dir = STUDIES[arguments[0]], Path(folders["runs_dir"])
    print(build(study, read_launched(runs_dir, study), runs_dir, Path(folders["reports_dir"])))
    return 0


sys.exit(guarded(lambda: main(sys.argv[1:]), debug=False))
