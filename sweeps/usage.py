"""The helps of ``sweeps/launch.py`` and ``sweeps/manage.py``, apart from what these import."""

from collections.abc import Mapping, Sequence

from aimv2.ablations.catalogue import questions
from aimv2.config.arguments import as_typed
from aimv2.sweeps.executors import BUILT_IN

OURS: Mapping[str, str] = {}
PLACE = ("executor", "executor.", "limit")  # another executor, any of its keys, and what it may cost
# What the commands of manage.py take beside runs_dir; a key that ends in "." is any that begins so.
KEYS: dict[str, tuple[str, ...]] = {
    "status": ("--json", "--watch"),
    "logs": (),
    "retry": PLACE,
    "cancel": ("launch", "yes"),
    "extend": ("seeds", "samples", "sweep.seeds", "budget.samples", *PLACE),
    "measure": ("evaluation.", "to", *PLACE),
    "replay": ("records", "tolerance", "data.cache_dir"),
}

LAUNCH = """usage: {typed} sweep=NAME [key=value ...]

Execute the runs of a study and write its report. A run is named by its config and executed once. Launch again, here or
on another machine, to execute the runs that are missing.

sweeps:
{sweeps}

  sweep.arms=[a,b]             run only these arms
  sweep.seeds=5                seeds 0 to 4, or a list of seeds
  sweep.equal=flops            equal training FLOPs in all arms; the default is equal samples
  sweep.controls=[]            leave out the null control and the positive control
  sweep.baseline= sweep.primary_metric= sweep.equivalence_margin= sweep.question= sweep.source=
                               other values of the study
  sweep.suffix=mine            ends the name of the report, so that the study on another base run has one of its own
  sweep.expected.ARM=better    expectation for the arm in the primary metric: better, worse, equal or null
  sweep.allow_mixed_code=true  draw verdicts even if the runs are of different code
  sweep.claims.CLAIM=[]        leave out a claim of the paper, or list its expectations
  scale=demo                   scale of the base run; other keys of train, such as start.weights=runs/NAME, recipe=NAME,
                               mixture=paper|public, config=FILE.yaml, or any of its values: budget.samples=4096
  data.sources=[A.yaml,B.yaml] sources of your own; studies of mixtures take their arms from them
  evaluation.sets=[FILE.yaml]  labelled sets of your own; the first decides where probe_object does not exist
  search=optuna                search the space of the study's factors, then confirm the winner (docs/search.md);
                               search.trials=24, sampler=, metric=, seed=
  limit=2h                     refuse a plan that costs more, in time (s, min, h, d), FLOPs (FLOPs to EFLOPs) or disk
                               space (MB to TB)
  executor={executors}
                               where workers run: processes here, this process, or a cluster (docs/cluster.md)
  executor.workers=4           number of workers
  executor.minutes=60          time limit of a job on a cluster; a longer run is requeued and resumes
  executor.runs_per_gpu=1      workers that share a GPU, of executor=local
  plugins=[FILE.py,FOLDER]     code of your own, such as a study, a prefix-length distribution or a metric
                               (docs/extend.md); retry, extend and reports find it in the code snapshot
  code=DIGEST                  launch with the code of this digest: that of a snapshot in runs/code, made by a launch
  sensitivity=auto             first measure what the metrics of the study's claims see on this base run, if that is not
                               known: both are one launch, with one price
  dry_run=true                 only print the plan and its price
  price=false                  do not time steps for dry_run= or limit=; times that were measured before are used
  runs_dir=runs                folder of the runs
  reports_dir=reports          folder of the reports
  debug=true                   show the traceback of an error

Arms and their levels are defined in ablations/studies/, and all keys of an executor in sweeps/executors/.
"""

MANAGE = """usage: {typed} COMMAND [NAME] [key=value ...]

  status [SWEEP]               show progress, time left, failures by cause, and why runs wait; --watch
                               refreshes, --json prints everything. Without a name it also shows single runs, of
                               {train}; with the name train, only these
  logs RUN                     show a run's attempts, the end of its metrics and log, and its traceback
  retry SWEEP                  execute failed runs of your last launch again, after listing their causes with advice.
                               Executor keys, such as executor.minutes=90, and limit= can be overridden,
                               here and in extend and measure
  cancel SWEEP                 list the active launches; release the runs of yours and start no others. launch=ID takes
                               this launch, and launch=all everybody's
  extend SWEEP seeds=8         repeat your last launch with other seeds, or with samples=40960, which makes new runs for
                               every arm and seed, since a run is named by its config
  measure SWEEP evaluation.KEY=VALUE
                               repeat your last launch with other values of the evaluation, such as a reader
                               (evaluation.reader.samples=20480) or metrics of a plug-in (plugins=[my.py]
                               evaluation.metrics=[cka]), on the weights of its finished runs, without training.
                               to=FOLDER is a runs folder for the new results, for metrics that only newer code has
  replay RUN                   execute a finished run again and compare it with its record, step by step; with
                               records=reports/NAME a run of the records beside that report. Values must be equal to the
                               last bit, or within tolerance=0.001 of each

  yes=true                     (cancel) do not ask for confirmation
  plugins=[FILE.py,FOLDER]     code of your own that the runs folder does not know, or has in another version
  runs_dir=runs                the runs folder
  debug=true                   show the traceback of an error

SWEEP is a name in runs/studies/; RUN is a run's name, and ID a launch's, or the beginning of it.
"""


def launch_usage(arguments: Sequence[str] = (), studies: Mapping[str, str] = OURS) -> str:
    """Return the help of a launch; ``studies`` are those of plug-ins, with their questions."""
    sweeps = "\n".join(f"  {name}\n    {question}" for name, question in {**questions(), **studies}.items())
    return LAUNCH.format(typed=as_typed("sweep"), sweeps=sweeps, executors="|".join(BUILT_IN))


def manage_usage(arguments: Sequence[str] = ()) -> str:
    return MANAGE.format(typed=as_typed("manage"), train=as_typed("train"))
