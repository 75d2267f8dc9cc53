"""The helps of the commands on reports, and the options of those that have a dataclass, apart from what they import."""

from collections.abc import Sequence

from pydantic import Field, PositiveFloat
from pydantic.dataclasses import dataclass

from aimv2.config.arguments import as_typed, usage
from aimv2.config.data_config import CHECKED

COLUMN = ["COLUMN"]
COLUMNS = ("n", "d", "loss", "seed", "flops")  # of a fit

REPORT = """usage: {report} STUDY|index|claims|all [runs_dir=…] [reports_dir=…] [export=true]
       {report} publish run RUN to=FOLDER | publish study STUDY to=FILE.zip [license=SPDX]
       {report} unpack FILE.zip to=FOLDER
       {report} check CLAIM [limit=2h] | check CLAIM --from-records
       {report} power

Write reports as Markdown, HTML and JSON, from finished runs or from the records beside an earlier report.

  STUDY                        a launched study, or the name of its report where scale or sweep.equal is not the default
                               (scaling_tiny, scaling_equal_flops), or of a search (loss_weight_search)
  index                        reports/index.md and index.html: every claim, every study, and the way to their reports
  claims                       a page with a verdict on every claim of the paper, from the records of all studies
  all                          all launched studies, then claims and index
  export=true                  write the runs as results.csv, tables as LaTeX (tables/), and figures as PDF and CSV too;
                               the next report without it deletes them
  --from-records               read reports_dir/STUDY/records.parquet in place of runs; without reports_dir= and records
                               in reports/, that of reports/published/
  --check                      write nothing; compare the pages with their records, and fail if one differs: say which
                               text, or which number by how much, apart from the last digit of a long number
  publish run RUN              write weights that transformers loads, with a model card that has the verdicts of its
                               study (study=, if there are several); layout=ml-aim for timm
  publish study STUDY          write a zip file of records, report, versions, card and checksums
  unpack FILE.zip              unpack such a file of others after a check of names, sizes and checksums; read it with
                               --from-records reports_dir=FOLDER
  check CLAIM                  run what a claim needs, and print the verdict; check --list lists the claims
  power                        print the seeds and CPU hours at which two arms show a difference of one margin, by scale
                               and metric, from the records of sensitivity studies (reports_dir=)
  plugins=[FILE.py,FOLDER]     code of your own that records need, where no runs folder has it (docs/extend.md)
  debug=true                   show the traceback of an error
"""

CHECK = """usage: {report} check CLAIM [limit=2h] [key=value ...]
       {report} check CLAIM --from-records [reports_dir=FOLDER]
       {report} check --list

Execute the runs that a claim of the paper needs and that are missing, and print the verdict on it.

  --list                       list the claims by table of the paper
  --from-records               run nothing; judge the claim again by the records beside the reports that are published
                               with this code, or by those in another folder of reports
  limit=2h                     refuse runs that cost more: time, FLOPs or disk space, as {sweep} has it
  study=NAME                   the study that judges the claim; the default is the first that --list names
  seeds=8                      number of seeds; the default is what the sensitivity study asks for, at most 16
  runs_dir=runs                the folder of the runs; the report goes to checks/ in it, and sensitivity studies of
                               your own are read from there
  dry_run=true                 only print the plan, without its time; with price=true also its time, which is measured
  price=false                  measure no time; a limit on the time is then an error
  committed=false              run all seeds; otherwise those of committed runs of the same configs count, and only more
                               are run
  sensitivity=auto             measure what the claim's metrics see beside the study, if that is not known
  scale=demo, data.sources=…   any other argument of {sweep}

The exit status is 0 if the claim is supported, 1 if it is contradicted or its effect is smaller than claimed or
negligible, 3 if it is undecided, not run or not testable, 130 if the check was interrupted, and 2 if there is no
verdict for another reason: bad input, a limit that is too low, a run that failed, or any other error.
"""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class FitOptions:
    """What to fit, and where to write it."""

    n: str | None = Field(None, examples=COLUMN, description="size of the model, such as its parameters")
    d: str | None = Field(
        None, examples=COLUMN, description="data seen in training: samples or tokens; n or d may be left out"
    )
    loss: str = Field(examples=COLUMN, description="what falls with both; positive")
    seed: str | None = Field(
        None,
        examples=COLUMN,
        description="runs with the same seed in several settings are a block; default: runs are independent",
    )
    flops: str | None = Field(
        None,
        examples=COLUMN,
        description="training FLOPs; default: 6 n d, which needs n in parameters and d in tokens",
    )
    huber: PositiveFloat | None = Field(
        None,
        examples=["SCALE"],
        description="relative residual beyond which the loss of the fit is linear (Hoffmann et al.: 0.001); default:"
        " 1.345 robust standard deviations of the residuals",
    )
    out: str | None = Field(
        None,
        examples=["FOLDER"],
        description="write the report to this folder, which is replaced: Markdown, HTML, JSON, figure",
    )
    export: bool = Field(False, description="true to write tables as LaTeX, figures as PDF and their data as CSV too")

    @property
    def columns(self) -> dict[str, str]:
        """The columns of the file by our names."""
        return {name: column for name in COLUMNS if (column := getattr(self, name))}


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class VerifyOptions:
    """Which run to check, and where the report goes."""

    run: str | None = Field(
        None,
        examples=["runs/NAME"],
        description="the run's folder, or its name in runs_dir; run= may be left out if it comes first; the default is"
        " the newest finished trained run of runs_dir but no control with shuffled captions or pixels",
    )
    runs_dir: str = Field("runs", description="the folder of runs")
    out: str = Field("reports/verify", description="the folder of the report, which is replaced")


def report_usage(arguments: Sequence[str] = ()) -> str:
    """Return the help of ``report.py``, or that of its command ``check``."""
    return check_usage() if list(arguments[:1]) == ["check"] else REPORT.format(report=as_typed("report"))


def check_usage() -> str:
    return CHECK.format(report=as_typed("report"), sweep=as_typed("sweep"))


def scaling_usage(arguments: Sequence[str] = ()) -> str:
    return usage(
        f"{as_typed('scaling')} fit FILE [n=COLUMN] [d=COLUMN] loss=COLUMN [key=value ...]",
        "Fit a scaling law to the runs in a CSV file, one a row: L = E + A n^-a + B d^-b, or that of one"
        " variable. Print the fit with intervals, its test on the largest runs, what is not identified, and the"
        " compute-optimal frontier.",
        FitOptions,
    )


def verify_usage(arguments: Sequence[str] = ()) -> str:
    return usage(
        f"{as_typed('verify')} [run=RUN] [key=value ...]",
        "Check a finished run: prefix lengths, masks, losses, predicted pixels and captions. Print"
        " PASS or FAIL for each check and write a report. The exit status is 0 if no check fails, 1 if one does.",
        VerifyOptions,
    )
