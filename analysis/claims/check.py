"""python analysis/report.py check CLAIM: run what a claim needs, and print the verdict in a sentence."""

import itertools
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from ablations.claims import CLAIMS, Claim
from ablations.study import Study
from aimv2.base.errors import RunFailedError, UsageError, unknown
from aimv2.config.arguments import HELP, key_values
from analysis.claims.plan import OWN_KEYS, CheckPlan, plan_check
from analysis.inference.relations import Word
from analysis.judgement.claims import seeds_in_words, seeds_of
from analysis.judgement.findings import findings_in
from analysis.judgement.verdicts import Verdict

USAGE = """usage: python analysis/report.py check CLAIM [limit=2h] [key=value ...]
       python analysis/report.py check --list

Execute the runs that a claim of the paper needs and that are missing, and print the verdict on it.

  --list                       list the claims by table of the paper
  limit=2h                     refuse runs that cost more: time, FLOPs or disk space, as sweeps/launch.py has it
  study=NAME                   the study that judges the claim; the default is the first that --list names
  seeds=8                      number of seeds; the default is what the sensitivity study asks for, at most 16
  runs_dir=runs                the folder of the runs; the report goes to checks/ in it, and sensitivity studies of
                               your own are read from there
  dry_run=true                 only print the plan and its price
  scale=demo, data.sources=…   any other argument of sweeps/launch.py

The exit status is 0 if the claim is supported, 1 if it is contradicted or its effect is smaller than claimed, 3 if it
is undecided, not run or not testable, 130 if the check was interrupted, and 2 if there is no verdict for another
reason: bad input, a limit that is too low, a run that failed, or any other error.
"""

LAUNCHER = Path(__file__).parents[2] / "sweeps" / "launch.py"
ERROR, INTERRUPTED = 2, 130
STATUS = {Word.SUPPORTED: 0, Word.CONTRADICTED: 1, Word.SMALLER: 1, Word.UNDECIDED: 3, Word.NOT_TESTABLE: 3}

Launch = Callable[[Sequence[str]], int]  # from the launcher's arguments to its exit status


def launch(arguments: Sequence[str]) -> int:
    """Run the launcher in a process of its own and return its exit status, negative if a signal ended it."""
    return subprocess.run([sys.executable, str(LAUNCHER), *arguments], check=False).returncode


def check(arguments: Sequence[str], launch: Launch = launch) -> int:
    """Carry out the command and return its exit status.

    Raises:
        UsageError: the claim, the study or a value does not exist, or a file cannot be read or written.
    """
    if not arguments or HELP & set(arguments):
        print(USAGE, end="")
        return 0 if arguments else ERROR
    if "--list" in arguments:
        if len(arguments) > 1:
            raise UsageError("--list stands alone: python analysis/report.py check --list")
        print(listed(), end="")
        return 0
    try:
        return _checked(arguments[0], arguments[1:], launch)
    except UsageError:
        raise
    except (OSError, RunFailedError) as error:
        raise UsageError(str(error)) from error
    except Exception:  # the status of an uncaught one would be 1, which means "contradicted"
        traceback.print_exc()
        return ERROR


def _checked(name: str, words: Sequence[str], launch: Launch) -> int:
    """Plan, launch and judge; return the exit status."""
    if name not in CLAIMS:
        raise unknown("claim", name, CLAIMS)
    claim, own, others = CLAIMS[name], *_split(words)
    if claim.why_not:
        print(f"{name} is not testable here. {claim.why_not}")
        for slug, what in claim.measured_by.items():
            print(f"python sweeps/launch.py sweep={slug} measures: {what}")
        return STATUS[Word.NOT_TESTABLE]
    plan = plan_check(claim, own, others)
    print("\n".join(plan.text), flush=True)
    if plan.blind:
        print(f"{name} is not testable at this scale: {plan.blind}.")
        return STATUS[Word.NOT_TESTABLE]
    if status := launch(plan.launch):
        print(f"{name} has no verdict: {_failure(status, plan, own)}")
        return INTERRUPTED if status in (INTERRUPTED, -signal.SIGINT) else ERROR
    if own["dry_run"] == "true":
        print(f"{name} was not run (dry run)")
        return STATUS[Word.UNDECIDED]
    if "executor=slurm" in others:
        print("The runs are submitted; type the same command again when they are done.")
        return STATUS[Word.UNDECIDED]
    verdict = findings_in(plan.checks_dir, plan.folder).verdicts[name]
    print(sentence(claim, plan.study, verdict))
    return STATUS[verdict.word]


def _failure(status: int, plan: CheckPlan, own: dict[str, str]) -> str:
    """Return why a launch gave no verdict, and what to type."""
    if status == 1:
        return f"a run failed (python sweeps/manage.py status {plan.folder} runs_dir={own['runs_dir']} says which)"
    if status == ERROR:
        return "the launch was refused, for the reason in the error above"
    if status in (INTERRUPTED, -signal.SIGINT):
        return "it was interrupted; type the same command again to continue"
    if status < 0:
        return f"the launcher was ended by {signal.Signals(-status).name}; type the same command again to continue"
    return f"the launcher failed with exit status {status}"


def listed() -> str:
    """Return the claims by source, each with the studies that judge it, or why none does."""
    lines = []
    for source, claims in itertools.groupby(CLAIMS.values(), lambda claim: claim.source):
        lines.append(source)
        for claim in claims:
            judged = f"studies: {', '.join(claim.studies)}" if claim.studies else f"not testable here: {claim.why_not}"
            lines += [f"  {claim.id}", f"      {claim.statement}", f"      {judged}"]
    return "\n".join(lines) + "\n"


def sentence(claim: Claim, study: Study, verdict: Verdict) -> str:
    """Return a verdict in a sentence, with the comparisons that decide below it."""
    why = f" ({'; '.join(verdict.qualifications)})" if verdict.qualifications else ""
    more = seeds_in_words(seeds_of(verdict, study))
    if verdict.word is Word.SMALLER:
        more = "No effect is detected, and the published one is ruled out; the exit status is that of a contradiction."
    first = " ".join(filter(None, [f"{claim.id} is {verdict.word}{why}.", more]))
    return "\n".join([first, *(f"  {line}" for line in verdict.evidence)])


def _split(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the command's own values and the arguments of the launcher."""
    mine = [word for word in words if word.partition("=")[0] in OWN_KEYS]
    own = OWN_KEYS | key_values(mine, OWN_KEYS)
    if own["dry_run"] not in ("true", "false"):
        raise UsageError(f"dry_run={own['dry_run']} must be true or false")
    others = [word for word in words if word not in mine]
    set_here = ("sweep=", "sweep.arms=", "sweep.seeds=", "reports_dir=")
    if taken := [word for word in others if word.startswith(set_here)]:
        raise UsageError(
            f"{taken[0]} is set by the check; type study=NAME, seeds=N or runs_dir=, or use sweeps/launch.py"
        )
    return own, others
