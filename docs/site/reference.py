"""The reference, generated from the code: every key, study, metric and claim, as Markdown by path in docs/."""

import dataclasses
import inspect
import json
import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from aimv2.ablations.catalogue import FILES, STUDIES
from aimv2.ablations.claims import CLAIMS, Claim
from aimv2.ablations.expand import adapted
from aimv2.ablations.expectations import Combination, Expected, Ranges
from aimv2.ablations.study import CONTROLS, Study, StudyOverrides
from aimv2.config.arguments import typed
from aimv2.config.program import differences, flattened
from aimv2.config.recipes.scales import SCALES, demo
from aimv2.config.run_config import RunConfig
from aimv2.definitions.metrics import FINAL, PARAMETERS
from aimv2.run.options import TrainOptions
from aimv2.sweeps.executors import BUILT_IN
from aimv2.sweeps.executors.base import executor_class
from aimv2.sweeps.parse import LaunchOptions
from aimv2.sweeps.search.space import SearchConfig

OURS = {name: STUDIES[name] for name in FILES}  # without those of plug-ins
REPORTS = Path(__file__).parents[2] / "reports" / "published"
BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}  # attributes of pydantic's constraints
WORDS = {int: "integer", float: "number", str: "text", bool: "`true` or `false`", type(None): "`null`"}
ATTRIBUTES = re.compile(r"^Attributes:\n(.*?)(?=^\S|\Z)", flags=re.DOTALL | re.MULTILINE)
ATTRIBUTE = re.compile(r"^    (\w+(?:, \w+)*): (.*(?:\n     .*)*)", flags=re.MULTILINE)


class Key(NamedTuple):
    """A key of a command line.

    Attributes:
        allowed: its type and bounds, or its values, in words.
        default: as it is typed; None if it has none.
        text: what its dataclass says of it; empty if nothing.
    """

    path: str
    allowed: str
    default: str | None
    text: str


def pages() -> dict[str, str]:
    """Return the Markdown of every page of the reference, by its path in docs/."""
    studies = {f"reference/studies/{name}.md": study_page(study) for name, study in OURS.items()}
    return {
        "reference/keys.md": keys_page(),
        "reference/studies/index.md": studies_page(),
        **studies,
        "reference/metrics.md": metrics_page(),
        "reference/claims.md": claims_page(),
    }


# Keys


def keys(kind: type, prefix: str = "") -> Iterator[Key]:
    """Yield the keys of a config or of options, those of its parts too."""
    texts = attributes(kind)
    for field in dataclasses.fields(kind):
        info = kind.__pydantic_fields__[field.name]  # type: ignore[attr-defined]  # a dataclass of pydantic
        path = f"{prefix}{info.alias or field.name}"
        if dataclasses.is_dataclass(info.annotation):
            yield from keys(info.annotation, f"{path}.")  # type: ignore[arg-type]  # no instance
        else:
            default = None if info.is_required() else _typed(info.get_default(call_default_factory=True))
            yield Key(path, in_words(info.annotation, info.metadata), default, texts.get(field.name, ""))


def attributes(kind: type) -> dict[str, str]:
    """Return what a dataclass says of its fields: in Attributes of its docstring, of its bases', or in ``Field``."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        for section in ATTRIBUTES.findall(inspect.cleandoc(base.__dict__.get("__doc__") or "")):
            for names, text in ATTRIBUTE.findall(section):
                texts |= dict.fromkeys(names.split(", "), _code(" ".join(text.split())))
    for name, info in kind.__pydantic_fields__.items():  # type: ignore[attr-defined]
        if info.description:
            texts[name] = _code(info.description)
    return texts


def in_words(annotation: Any, metadata: Any = ()) -> str:
    """Return a type and its bounds in words, such as ``a number above 0``, or its values."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return in_words(arguments[0], arguments[1:])
    if origin is Literal:
        return _either(f"`{_typed(value)}`" for value in arguments)
    if origin in (Union, types.UnionType):
        kinds = [one for one in arguments if one is not type(None)]
        words = [in_words(one, () if len(kinds) > 1 else metadata) for one in kinds]
        return _either([*words, "`null`"] if len(kinds) < len(arguments) else words)
    if origin is tuple:
        return f"list of {in_words(arguments[0])}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "keys and values"
    if dataclasses.is_dataclass(annotation):
        return f"`{annotation.__name__}`"  # type: ignore[union-attr]
    found = [one for own in metadata for one in (own.metadata if isinstance(own, FieldInfo) else [own])]
    bounds = [
        f"{words} {getattr(one, name):g}" for one in found for name, words in BOUNDS.items() if hasattr(one, name)
    ]
    return f"{WORDS[annotation]} {' and '.join(bounds)}".strip()


def keys_page() -> str:
    """Return the page of all keys."""
    run = ["## Values of a run\n\nKeys of `train`, of `cost`, and of a launch, which sets them in every arm."]
    at_demo = {path: _typed(value) for path, value in flattened(demo().to_dict()).items()}
    by_part: dict[str, list[Key]] = {}
    for key in keys(RunConfig):
        by_part.setdefault(key.path.rpartition(".")[0], []).append(key)
    for part, own in by_part.items():  # that of the whole run is the first
        title = (
            f"### `{part}`\n\n{_first_paragraph(_part_of(part))}" if part else f"### Of the whole run\n\n{_scales()}"
        )
        run.append(f"{title}\n\n{_listed(own, at_demo)}")
    others = [
        ("Keys of `train` alone", "", TrainOptions),
        ("Keys of a launch", "", LaunchOptions),
        ("`sweep.`: values of a study", "sweep.", StudyOverrides),
        ("`search.`: with `search=optuna`", "search.", SearchConfig),
        *((f"`executor.`: with `executor={name}`", "executor.", executor_class(name)) for name in BUILT_IN),
    ]
    rest = [
        f"## {title}\n\n{_first_paragraph(kind)}\n\n{_listed(list(keys(kind, prefix)), {})}"
        for title, prefix, kind in others
    ]
    return "\n\n".join(
        [
            "---\nsearch:\n  boost: 2\n---",
            "# Keys",
            "```\naimv2 cost scale=demo objective.pixel_weight=0.2    # any key\n```",
            "Every key with its type, its default and, where that is another value, its value at the scale `demo`."
            " [One run](../one-run.md#keys) is a shorter list.",
            *run,
            *rest,
            "",
        ]
    )


def _scales() -> str:
    names = _either(f"`{name}`" for name in SCALES)
    return f"`scale` is the recipe from which a run starts: {names} ([what they are](../one-run.md#scales))."


def _part_of(path: str) -> type:
    kind: type = RunConfig
    for name in filter(None, path.split(".")):
        kind = kind.__pydantic_fields__[name].annotation  # type: ignore[attr-defined]
    return kind


def _listed(found: list[Key], at_demo: Mapping[str, str]) -> str:
    rows = []
    for key in found:
        default = "no default" if key.default is None else f"default `{key.default}`"
        own = at_demo.get(key.path, key.default)
        scale = f", at `demo` `{own}`" if own != key.default and key.path != "scale" else ""
        text = key.text[:1].upper() + key.text[1:]
        rows.append(f"`{key.path}`{{ #{key.path} }}\n:   {_cell(key.allowed)}; {default}{scale}.{text and f' {text}'}")
    return "\n\n".join(rows)


# Studies


def studies_page() -> str:
    """Return the list of all studies."""
    rows = [
        [
            f"[`{name}`]({name}.md)",
            study.question,
            str(len(study.arms)),
            f"`{study.primary_metric}`",
            f"`{study.scale}`",
        ]
        for name, study in OURS.items()
    ]
    table = _table(["study", "question", "arms", "decided by", "scale"], rows)
    return f"# Studies\n\n```\naimv2 sweep --help\n```\n\n{table}\n"


def study_page(study: Study) -> str:
    """Return the page of a study."""
    base = SCALES[study.scale]()
    study = adapted(study, base)
    start = " start.weights=runs/NAME" if study.adapts else ""
    source = f"ablations/studies/{FILES[study.slug]}.py"
    parts = [
        f"# {study.slug}",
        f"**{study.question}**",
        f"```\naimv2 sweep sweep={study.slug}{start} dry_run=true    # plan and price\n"
        f"aimv2 sweep sweep={study.slug}{start}                 # runs and report\n```",
        _facts(
            {
                "Source": study.source,
                "Primary metric": f"{_metric(study.primary_metric)}, {_direction(study.lower_is_better)}",
                "Design": study.design.kind,
                "Seeds": ", ".join(map(str, study.seeds)),
                "Scale": f"`{study.scale}`",
                "Defined in": f"[`{source}`](/{source})",
                "Published report": _published(study.slug) or "none",
            }
        ),
        f"## Arms\n\nValues are those that differ from the base run at the scale `{study.scale}`.",
        _table(
            ["arm", "label", "values", "expected"],
            [
                [f"`{name}`", arm.label, _values(differences(arm.change(base), base)), _expected(study, name)]
                for name, arm in study.arms.items()
            ],
        ),
        "## Controls",
        "\n".join(f"- `{name}`: {CONTROLS[name].label}" for name in study.controls),
        *([f"## Notes\n\n{chr(10).join(f'- {note}' for note in study.notes)}"] if study.notes else []),
        *([f"## Claims\n\n{_claims_of(study)}"] if study.claims else []),
    ]
    return "\n\n".join([*parts, ""])


def _expected(study: Study, arm: str) -> str:
    return "the baseline" if arm == study.baseline else study.expected.get(arm, "open")


def _values(values: Mapping[str, Any]) -> str:
    return "<br>".join(f"`{path}={_typed(value)}`" for path, value in values.items())


def _claims_of(study: Study) -> str:
    found = []
    for claim, expectations in study.claims.items():
        rows = [[in_sentence(one), one.why] for one in expectations]
        text = f"[**{claim}**](../claims.md#{claim}): {CLAIMS[claim].statement}" if claim in CLAIMS else f"**{claim}**"
        found.append(f"{text}\n\n{_table(['must be observed', 'because'], rows)}")
    return "\n\n".join(found)


def in_sentence(one: Expected) -> str:
    """Return an expectation as a sentence without an end."""
    if isinstance(one, Ranges):
        arms, others = ", ".join(one.range_arms), ", ".join(one.than_arms)
        return f"{one.name} ({arms}) wider than {one.than_name} ({others}), in `{one.metric}`"
    if isinstance(one, Combination):
        weights = ", ".join(f"{weight:+.3g} {arm}" for arm, weight in one.weights.items())
        return f"{one.name} {one.relation} than 0, in `{one.metric}` ({weights})"
    than = "to" if one.relation == "equal" else "than"
    if one.metric == one.than_metric:
        return f"`{one.arm}` {one.relation} {than} `{one.than_arm}`, in `{one.metric}`"
    return f"`{one.arm}` in `{one.metric}` {one.relation} {than} `{one.than_arm}` in `{one.than_metric}`"


# Metrics


def metrics_page() -> str:
    """Return the page of all metrics."""
    decided: dict[str, list[str]] = {}
    for name, study in OURS.items():
        for metric in study.deciding_metrics:
            decided.setdefault(_family(metric), []).append(f"[{name}](studies/{name}.md)")
    rows = [
        [
            f"`{one.name}`{{ #{_anchor(one.name)} }}",
            one.unit,
            "lower" if one.lower_is_better else "higher",
            one.needs or "",
            one.report or "",
            ", ".join(decided.get(one.name, [])),
        ]
        for one in FINAL
    ]
    return (
        "# Metrics\n\n"
        "```\naimv2 train scale=demo    # train a run, and print its metrics\n```\n\n"
        "[What is measured](../one-run.md#what-is-measured) defines the main ones. *Needs* is what the run's data must"
        " have, and *report* the group of `aimv2/evaluation/` that measures it.\n\n"
        + _table(["metric", "unit", "better", "needs", "report", "decides"], rows)
        + "\n"
    )


def _family(metric: str) -> str:
    for one in FINAL:
        pattern = one.name
        for parameter, (values, _) in PARAMETERS.items():
            pattern = pattern.replace(parameter, f"({values})")
        if re.fullmatch(pattern, metric):
            return one.name
    raise KeyError(metric)


def _metric(metric: str) -> str:
    return f"[`{metric}`](../metrics.md#{_anchor(_family(metric))})"


def _anchor(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_")


# Claims


def claims_page() -> str:
    """Return the page of all claims."""
    judged = json.loads((REPORTS / "claims" / "report.json").read_text())["numbers"]["claims"]
    groups: dict[str, list[Claim]] = {}
    for claim in CLAIMS.values():
        groups.setdefault(claim.group, []).append(claim)
    parts = [
        "# Claims of the papers",
        "```\naimv2 report check prefix-beats-causal --from-records\n```",
        "The claims of AIMv2 and AIM v1 in our words, from [`ablations/claims.yaml`](/ablations/claims.yaml), with the"
        " verdict on the committed records. [The page of verdicts](/reports/published/claims/report.md) has the"
        " intervals, and [Claims](../claims.md) says how they are judged.",
    ]
    for group, claims in groups.items():
        parts += [f"## {group}", *(_claim(claim, judged) for claim in claims)]
    return "\n\n".join([*parts, ""])


def _claim(claim: Claim, judged: Mapping[str, Any]) -> str:
    answers = [one for own in judged.values() for one in own["answers"] if one["claim"] == claim.id and one["study"]]
    published = [
        f"{metric}: {', '.join(f'{condition} {value:g}' for condition, value in values.items())}"
        for metric, values in claim.published.items()
    ]
    facts = {
        "Verdict": f"**{judged[claim.id]['verdict']}**" if claim.id in judged else "",
        "By study": "; ".join(map(_answer, answers)),
        "Not judged because": claim.why_not,
        "Source": claim.source,
        "Claimed": claim.claimed,
        "Contradicted if": claim.contradicted_if,
        "Evidence of the source": claim.evidence,
        "Published": "; ".join(published),
        "Limits": claim.limits,
        "Part of": claim.part_of and f"[{claim.part_of}](#{claim.part_of}), with which it counts",
    }
    return f"### {claim.id} {{ #{claim.id} }}\n\n{claim.statement}\n\n{_facts(facts)}"


def _answer(one: Mapping[str, str]) -> str:
    """Return the verdict of a study on a claim, with its report."""
    link = f", [report](/reports/published/{one['report']}/report.md)" if one["report"] else ""
    return f"[{one['study']}](studies/{one['study']}.md): {one['verdict']}{link}"


def _published(study: str) -> str:
    """Return links to the committed reports of a study."""
    found = sorted(
        path.parent.name
        for path in REPORTS.glob("*/report.json")
        if (path.parent / "records.parquet").exists() and _study_of(path.parent.name) == study
    )
    return ", ".join(f"[{name}](/reports/published/{name}/report.md)" for name in found)


def _study_of(report: str) -> str:
    """Return the study of a report: the longest name of a study with which the report's begins."""
    return max((name for name in FILES if report == name or report.startswith(f"{name}_")), key=len)


# Markdown


def _facts(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- **{name}.** {text}" for name, text in facts.items() if text)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _typed(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_typed(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_typed, value))}]"
    if value == "":
        return '""'
    return f"{value:.6g}" if isinstance(value, float) else typed("", value).removeprefix("=")


def _either(words: Any) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def _code(text: str) -> str:
    """Return text of a docstring with code as Markdown has it."""
    return text.replace("``", "`")


def _first_paragraph(kind: type) -> str:
    return _code(" ".join(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].split()))


def _direction(lower_is_better: bool) -> str:
    return f"{'lower' if lower_is_better else 'higher'} is better"
