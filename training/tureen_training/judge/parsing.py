"""From the judge's text to a verdict, by one stated rule; whatever the rule does not cover is an error.

The rule: the verdict stands on a line of its own, `Rating: 4` or `Verdict: A`. The name before the colon is
matched without regard to case; Markdown emphasis, `4/5` on a scale that ends at 5 and a final full stop are
allowed; nothing else is. Prose around that line is ignored. A text that is nothing but the verdict needs no name.
Lines that differ contradict each other. The text is never searched for numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from tureen_training.judge.errors import Failure, JudgeError

T = TypeVar("T")

_NUMBER = re.compile(r"([+-]?\d+(?:\.\d+)?)(?:\s*/\s*(\d+))?")
_NOT_APPLICABLE = frozenset({"n/a", "na", "not applicable"})
_REFUSAL = re.compile(
    r"\b(?:I(?:’|')?m (?:sorry|unable|not able)|I (?:can(?:no|’|')t|cannot|won(?:’|')t|will not|decline)"
    r"|as an AI\b|unable to (?:assist|rate|judge|evaluate|provide))",
    re.IGNORECASE,
)


def parse_rating(text: str, low: int, high: int, name: str = "Rating") -> int:
    """The whole number that a judge gave on a scale from `low` to `high`.

    Raises:
        JudgeError: empty, refusal, unreadable, contradictory, out_of_scale.
    """
    found = _stated(text, name)
    match = _NUMBER.fullmatch(found)
    if match is None:
        raise _unreadable(text, name, f"{low} to {high}")
    number, scale = float(match[1]), match[2]
    if scale is not None and int(scale) != high:
        raise JudgeError(Failure.OUT_OF_SCALE, f"{found!r} is not on the scale {low} to {high}")
    if not number.is_integer() or not low <= number <= high:
        raise JudgeError(
            Failure.OUT_OF_SCALE, f"{found!r} is not a whole number from {low} to {high}"
        )
    return int(number)


def parse_optional_rating(text: str, low: int, high: int, name: str) -> int | None:
    """As `parse_rating`; None where the judge wrote N/A, which is no number and never counts as one.

    Raises:
        JudgeError: as `parse_rating`.
    """
    if _stated(text, name).casefold() in _NOT_APPLICABLE:
        return None
    return parse_rating(text, low, high, name)


def parse_choice(text: str, choices: Mapping[str, T], name: str = "Verdict") -> T:
    """What the word that a judge chose stands for; words are matched without regard to case.

    Raises:
        JudgeError: as `parse_rating`.
    """
    found = _stated(text, name)
    known = {word.casefold(): value for word, value in choices.items()}
    if found.casefold() in known:
        return known[found.casefold()]
    if re.fullmatch(r"\w+", found):
        raise JudgeError(Failure.OUT_OF_SCALE, f"{found!r} is none of {', '.join(choices)}")
    raise _unreadable(text, name, ", ".join(choices))


def parse_finding(text: str, name: str, known: Sequence[str]) -> tuple[str, str]:
    """One of the words `known`, and the reason behind a dash, "" where there is none.

    Raises:
        JudgeError: as `parse_rating`.
    """
    found, _, reason = _stated(text, name).partition(" - ")
    word = found.strip().casefold()
    if word in known:
        return word, reason.strip()
    if re.fullmatch(r"\w+", word):
        raise JudgeError(Failure.OUT_OF_SCALE, f"{found!r} is none of {', '.join(known)}")
    raise _unreadable(text, name, ", ".join(known))


def _stated(text: str, name: str) -> str:
    """What stands behind the name, or the whole text where it is one line without a colon."""
    if not text.strip():
        raise JudgeError(Failure.EMPTY, "the judge wrote nothing")
    lines = [_plain(line) for line in text.strip().splitlines()]
    pattern = re.compile(rf"{re.escape(name)}\s*[:=]\s*(.*)", re.IGNORECASE)
    matches = [match[1] for line in lines if (match := pattern.fullmatch(line))]
    stated = list(dict.fromkeys(found.rstrip(".").strip() for found in matches))
    if len(stated) > 1:
        raise JudgeError(
            Failure.CONTRADICTORY, f"the judge gave {len(stated)} verdicts: {', '.join(stated)}"
        )
    if stated:
        return stated[0]
    if len(lines) == 1 and ":" not in lines[0] and " " not in lines[0].replace(" / ", "/"):
        return lines[0].rstrip(".")
    raise _unreadable(text, name, "a verdict")


def _plain(line: str) -> str:
    """Without Markdown emphasis, headings and quotes around it."""
    return re.sub(r"[*_`]", "", line).strip().lstrip("#> ").strip()


def _unreadable(text: str, name: str, allowed: str) -> JudgeError:
    if _REFUSAL.search(text):
        return JudgeError(Failure.REFUSAL, f"the judge declined: {_excerpt(text)}")
    return JudgeError(
        Failure.UNREADABLE,
        f"no line '{name}: …' with {allowed} in the judge's {len(text)} characters: "
        f"{_excerpt(text)}",
    )


def _excerpt(text: str) -> str:
    """The end, where the verdict should be."""
    return repr(text if len(text) <= 120 else "…" + text[-120:])
