"""Images with the caption that each arm wrote, right words and wrong ones told apart."""

import base64
from dataclasses import dataclass
from difflib import SequenceMatcher

from aimv2.base.markdown import escape
from analysis.document.model import Bullets, Cell, Paragraph, Section, Table
from analysis.judgement.findings import Findings

INTRODUCTION = (
    "Captions of held-out images by each arm's first seed, with greedy decoding and full attention. Words are compared"
    " with the reference in their order: **right words** are bold, ~~wrong words~~ are struck out, and words of the"
    " reference that are not written are counted as missing. A few captions of one seed decide nothing."
)
CUT = (
    " The end of text is not a training target, as in the released configuration, so captions are cut to the"
    " reference's number of tokens."
)


@dataclass(frozen=True)
class Compared:
    """A caption beside its reference.

    Attributes:
        parts: pieces of the caption in order, each with True if its words are right.
        num_right, num_words: words of the reference that are written, and all of them.
        num_missing: words of the reference with nothing in their place.
    """

    parts: tuple[tuple[str, bool], ...]
    num_right: int
    num_words: int
    num_missing: int

    @property
    def markdown(self) -> str:
        """The caption, right words bold and wrong ones struck out."""
        marks = {True: "**", False: "~~"}
        pieces = [f"{marks[is_right]}{escape(text)}{marks[is_right]}" for text, is_right in self.parts]
        return " ".join(pieces) or "*nothing*"

    @property
    def counts(self) -> str:
        missing = f", {self.num_missing} missing" if self.num_missing else ""
        return f"{self.num_right} of {self.num_words} words right{missing}"


def section(findings: Findings) -> tuple[Section | None, dict[str, bytes]]:
    """Return the examples and their images by path; None and no image if no arm has any."""
    study, evidence = findings.study, findings.evidence
    arms = [arm for arm in study.arms if arm in evidence.examples]
    table = Table(["image", "reference", *(study.label(arm) for arm in arms)], name="examples")
    images: dict[str, bytes] = {}
    scores: dict[str, list[Compared]] = {arm: [] for arm in arms}
    for number, examples in enumerate(zip(*(evidence.examples[arm] for arm in arms), strict=True), 1):
        path = f"figures/example_{number:02d}.png"
        images[path] = base64.b64decode(examples[0]["png"])
        reference = examples[0]["reference"]
        row: list[str | Cell] = [f"![image {number}]({path})", escape(reference)]
        for arm, example in zip(arms, examples, strict=True):
            compared = compare(reference, example["written"])
            scores[arm].append(compared)
            share = compared.num_right / compared.num_words if compared.num_words else None
            first = tuple(evidence.runs.loc[evidence.runs["arm"] == arm, "run"].head(1))
            row.append(Cell((compared.counts, compared.markdown), runs=first, value=share))
        table.rows.append(row)
    if not table.rows:
        return None, {}
    shares = []
    for arm, found in scores.items():
        num_right, num_words = sum(one.num_right for one in found), sum(one.num_words for one in found)
        shares.append(f"{study.label(arm)}: {num_right} of {num_words} words right.")
    introduction = INTRODUCTION + CUT * (not findings.config.objective.supervise_eos)
    return Section("Examples", [Paragraph(introduction), Bullets(shares), table]), images


def compare(reference: str, written: str) -> Compared:
    """Compare a caption with its reference word by word, in their order (Ratcliff and Obershelp, as in difflib)."""
    expected, words = reference.split(), written.split()
    parts, num_right, num_missing = [], 0, 0
    for tag, start, end, begin, stop in SequenceMatcher(None, expected, words, autojunk=False).get_opcodes():
        if stop > begin:
            parts.append((" ".join(words[begin:stop]), tag == "equal"))
        if tag == "equal":
            num_right += end - start
        else:
            num_missing += max(0, (end - start) - (stop - begin))
    return Compared(tuple(parts), num_right, len(expected), num_missing)
