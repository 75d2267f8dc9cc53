"""python analysis/report.py check CLAIM: run what a claim needs, and print the verdict in a sentence."""

import itertools
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aimv2.ablations.catalogue import STUDIES
from aimv2.ablations.claims import CLAIMS, Claim
from aimv2.ablations.ladder import COMMITTED
from aimv2.ablations.recorded_runs import FILE, recorded_names
from aimv2.ablations.request import read_request, requested_names
from aimv2.ablations.study import SEARCH_SUFFIX
from aimv2.analysis.claims.plan import OWN_KEYS, CheckPlan, plan_check
from aimv2.analysis.evidence.records import join, read_records
from aimv2.analysis.judgement.claims import NOT_RUN, Answer, answers_of, overall, whole_claims
from aimv2.analysis.judgement.findings import findings_in, findings_of
from aimv2.analysis.judgement.planner import in_words
from aimv2.analysis.judgement.rules import RULES_SINCE, Word, alone
from aimv2.analysis.usage import check_usage
from aimv2.base.errors import RunFailedError, UsageError, unknown
from aimv2.base.processes import imports_from
from aimv2.config.arguments import HELP, as_typed, key_values
from aimv2.request.compose import with_file
from aimv2.runs.provenance import PACKAGE
from aimv2.runs.record import entries

LAUNCHER = "aimv2.sweeps.launch"  # a module, because nothing imports upwards
FROM_RECORDS = "--from-records"
ERROR, INTERRUPTED = 2, 130
ALONE = (
    "A claim that is checked alone has the 5 % of the page of claims by itself, unless its runs began before"
    f" {RULES_SINCE}, when the rules were others. Reports judge claims at the level of that page, and may leave open"
    " what is decided here."
)
STATUS: Mapping[str, int] = {
    Word.SUPPORTED: 0,
    Word.CONTRADICTED: 1,
    Word.SMALLER: 1,
    Word.NEGLIGIBLE: 1,
    Word.UNDECIDED: 3,
    Word.NOT_TESTABLE: 3,
}

Launch = Callable[[Sequence[str]], int]  # from the launcher's arguments to its exit status


def launch(arguments: Sequence[str]) -> int:
    """Run the launcher in a process of its own and return its exit status, negative if a signal ended it."""
    environment = os.environ | imports_from(PACKAGE.parent)
    return subprocess.run([sys.executable, "-m", LAUNCHER, *arguments], check=False, env=environment).returncode


def check(arguments: Sequence[str], launch: Launch = launch, published: Path = COMMITTED) -> int:
    """Carry out the command and return its exit status; ``published`` has the seeds that need no run."""
    if not arguments or HELP & set(arguments):
        print(check_usage(), end="")
        return 0 if arguments else ERROR
    if "--list" in arguments:
        if len(arguments) > 1:
            raise UsageError(f"--list stands alone: {as_typed('report')} check --list")
        print(listed(), end="")
        return 0
    try:
        return _checked(arguments[0], with_file(arguments[1:]), launch, published)
    except UsageError:
        raise
    except (OSError, RunFailedError) as error:
        raise UsageError(str(error)) from error
    except Exception:  # the status of an uncaught one would be 1, which means "contradicted"
        traceback.print_exc()
        return ERROR


def _checked(name: str, words: Sequence[str], launch: Launch, published: Path) -> int:
    """Plan, launch and judge; return the exit status."""
    if name not in CLAIMS:
        raise unknown("claim", name, CLAIMS)
    if FROM_RECORDS in words:
        return _from_records(name, [word for word in words if word != FROM_RECORDS])
    claim, own, others = CLAIMS[name], *_split(words)
    if claim.why_not:
        print(f"{name} is {Answer(claim).word} here. {claim.why_not}")
        for slug, what in claim.measured_by.items():
            print(f"{as_typed('sweep')} sweep={slug} measures: {what}")
        return STATUS[Word.NOT_TESTABLE]
    plan = plan_check(claim, own, others, published)
    print("\n".join(plan.text), flush=True)
    if recorded := _recorded(claim.studies, COMMITTED):
        print(
            f"There are committed records of {', '.join(recorded)}. They judge it at their own scales, without runs:"
            f" {as_typed('report')} check {name} --from-records",
            flush=True,
        )
    if plan.blind:
        print(f"{name} is not testable: {plan.blind}.")
        return STATUS[Word.NOT_TESTABLE]
    path = plan.checks_dir / plan.folder / FILE
    before = path.stat().st_mtime_ns if path.exists() else None
    if status := launch(plan.launch):
        print(f"{name} has no verdict: {_failure(status, plan, own)}")
        return INTERRUPTED if status in (INTERRUPTED, -signal.SIGINT) else ERROR
    if own["dry_run"] == "true":
        print(f"{name} was not run (dry run)")
        return STATUS[Word.UNDECIDED]
    is_new = path.exists() and path.stat().st_mtime_ns != before
    if not is_new and _has_open_runs(Path(own["runs_dir"]), plan.folder):
        print("The runs are submitted; type the same command again when they are done.")
        return STATUS[Word.UNDECIDED]
    answers = _answers_of_plan(claim, plan)
    answer = answers.pop("all")
    print(sentence(answer))
    print(ALONE)
    if answers:
        print(f"By {'; by '.join(f'{whose} alone: {part.word}' for whose, part in answers.items())}.")
    parts = [part.id for part in whole_claims().get(name, [])]
    if more := [*parts, *(slug for slug in claim.studies if slug != plan.study.slug)]:
        print(f"That is the verdict of sweep={plan.study.slug} alone; {', '.join(more)} count too.")
    return STATUS[Word(answer.word)]


def _has_open_runs(runs_dir: Path, folder: str) -> bool:
    """True if a study was launched, or is about to be, and has runs without a result."""
    if folder not in requested_names(runs_dir):
        return True
    runs = entries(runs_dir)
    names = [cell.name for cell in read_request(runs_dir, folder, STUDIES).cells]
    return any(name not in runs or runs[name].state != "done" for name in names)


def _answers_of_plan(claim: Claim, plan: CheckPlan) -> dict[str, Answer]:
    """Return the answers of all runs, and, if the plan counts committed ones, of those and of the others alone."""
    own = read_records(plan.checks_dir / plan.folder / FILE, STUDIES)
    records = {"all": own}
    if plan.committed is not None:
        records = {"all": join(plan.committed, own), "the committed seeds": plan.committed, "the others": own}
    return {
        whose: Answer(claim, plan.study.slug, plan.folder, findings_of(runs, plan.checks_dir).judged_by(alone))
        for whose, runs in records.items()
    }


def _from_records(name: str, words: Sequence[str]) -> int:
    """Print the verdict on a claim by the records of reports, and what it rests on; return the exit status."""
    reports_dir = Path(key_values(words, {"reports_dir"}).get("reports_dir", COMMITTED))
    if not reports_dir.is_dir():
        raise UsageError(f"reports_dir={reports_dir} is not a folder")
    answers = _answers(name, reports_dir)
    word = overall(answers)
    if CLAIMS[name].why_not:
        print(f"{name} is {word} here. {CLAIMS[name].why_not}")
    elif len(answers) > 1:
        print(f"{name} is {word}, with all studies and parts.")
    for answer in answers:
        claim, report = answer.claim, answer.report
        if answer.findings is not None and answer.verdict is not None:
            num_runs, scale = len(answer.findings.evidence.runs), answer.findings.config.label
            print(f"By {report}: {sentence(answer)}")
            print(f"  from {reports_dir / report / FILE}: {num_runs} runs at scale {scale}")
        elif report:
            print(f"{reports_dir / report / 'report.md'} measures: {'; '.join(claim.measured_by.values())}")
        elif answer.study:
            print(
                f"{claim.id} is {NOT_RUN} by sweep={answer.study}: {reports_dir} has no records of it;"
                f" {as_typed('report')} check {claim.id} study={answer.study} runs it"
            )
    if any(answer.verdict is not None for answer in answers):
        print(ALONE)
    return STATUS.get(word, STATUS[Word.UNDECIDED])


def _answers(name: str, reports_dir: Path) -> list[Answer]:
    """Return the answers of the records beside reports to a claim and its parts."""
    claims = [CLAIMS[name], *whole_claims().get(name, [])]
    studies = tuple(slug for claim in claims for slug in (*claim.studies, *claim.measured_by))
    findings = {report: findings_in(reports_dir, report).judged_by(alone) for report in _recorded(studies, reports_dir)}
    return [answer for claim in claims for answer in answers_of(claim, findings)]


def _recorded(studies: tuple[str, ...], reports_dir: Path) -> list[str]:
    """Return the names of the reports of these studies that have records. A search judges no claim."""
    names = recorded_names(reports_dir)
    return [name for name in names if name.startswith(studies) and SEARCH_SUFFIX not in name]


def _failure(status: int, plan: CheckPlan, own: dict[str, str]) -> str:
    """Return why a launch gave no verdict, and what to type."""
    if status == 1:
        return f"a run failed ({as_typed('manage')} status {plan.folder} runs_dir={own['runs_dir']} says which)"
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
            why_not = f"{Answer(claim).word}: {claim.why_not}"
            judged = f"studies: {', '.join(claim.studies)}" if claim.studies else why_not
            lines += [f"  {claim.id}", f"      {claim.statement}", f"      {judged}"]
    return "\n".join(lines) + "\n"


def sentence(answer: Answer) -> str:
    """Return the verdict of a report in a sentence, with the comparisons of the claim below it."""
    verdict = answer.verdict
    assert verdict is not None, f"{answer.report} has no verdict on {answer.claim.id}"
    why = f" ({'; '.join(verdict.qualifications)})" if verdict.qualifications else ""
    more = in_words(answer.seeds_to_decide)
    if verdict.word in (Word.SMALLER, Word.NEGLIGIBLE):
        size = "the published one" if verdict.word is Word.SMALLER else "one as large as the margin"
        more = f"No effect is detected, and {size} is ruled out; the exit status is that of a contradiction."
    first = " ".join(filter(None, [f"{answer.claim.id} is {verdict.word}{why}.", more]))
    return "\n".join([first, *(f"  {line}" for line in verdict.evidence)])


def _split(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the command's own values and the arguments of the launcher."""
    mine = [word for word in words if word.partition("=")[0] in OWN_KEYS]
    own = OWN_KEYS | key_values(mine, OWN_KEYS)
    for key in ("dry_run", "price", "committed"):
        if own[key] not in ("true", "false", OWN_KEYS[key]):
            raise UsageError(f"{key}={own[key]} must be true or false")
    others = [word for word in words if word not in mine]
    set_here = ("sweep=", "sweep.arms=", "sweep.seeds=", "reports_dir=")
    if taken := [word for word in others if word.startswith(set_here)]:
        raise UsageError(
            f"{taken[0]} is set by the check; type study=NAME, seeds=N or runs_dir=, or use {as_typed('sweep')}"
        )
    return own, others
