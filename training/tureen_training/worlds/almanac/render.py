"""Facts as sentences, and sentences as facts again.

`parse` reads what a policy wrote, which need not be well formed. A statement is a sentence that fits one of the
templates word for word, white space aside; its entity and its value may be any words, of the world or not. Whatever
else stands there, an unfinished sentence among it, is rubbish: it states something that nothing supports.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from tureen.text.segments import Span
from tureen_training.worlds.almanac.world import Attribute, Fact, Item, World, kinds_of

_SENTENCE = re.compile(r"[^.]*(?:\.|$)")


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence and the fact it states; None for rubbish. span: characters of the response."""

    span: Span
    fact: Fact | None


def prose(world: World, facts: Iterable[Fact], rng: random.Random) -> str:
    """A sentence for each fact, in their order."""
    return " ".join(
        rng.choice(world.attribute(fact).templates).format(e=fact.entity, v=fact.value)
        for fact in facts
    )


_QUESTIONS = (
    "Tell me the {what} of {e}.",
    "State the {what} of {e}.",
    "I wish to know the {what} of {e}.",
)


def question(entity: str, attributes: Sequence[Attribute], rng: random.Random) -> str:
    names = [attribute.asked for attribute in attributes]
    what = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
    return rng.choice(_QUESTIONS).format(what=what, e=entity)


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    """A sentence's pattern and the attribute it speaks of, each template once."""
    name = r"(?P<e>\w+(?: \w+)?)"
    found = []
    for kind in kinds_of((), ()):
        for attribute in kind.attributes:
            for template in attribute.templates:
                escaped = re.escape(template).replace(r"\{v\}", r"(?P<v>\w+)")
                found.append((re.compile(escaped.replace(r"\{e\}", name)), attribute.name))
    return tuple(found)


def parse(response: str) -> list[Statement]:
    """The statements of a response, in order."""
    statements: list[Statement] = []
    for match in _SENTENCE.finditer(response):
        text = match.group()
        start = match.start() + len(text) - len(text.lstrip())
        if start < match.end():
            fact = _fact(" ".join(text.split()))
            statements.append(Statement(Span(start, match.end()), fact))
    return statements


def _fact(text: str) -> Fact | None:
    for pattern, attribute in _patterns():
        match = pattern.fullmatch(text)
        if match:
            return Fact(match["e"], attribute, match["v"])
    return None


def make_item(world: World, name: str, rng: random.Random, *, most: int = 3) -> Item:
    """A question on one entity, whose passage stands beside that of another entity of the same kind.

    Each passage leaves out one attribute. most: facts that are asked for.
    """
    own, others = (facts[:-1] for facts in world.two(rng))
    asked = tuple(rng.sample(own, rng.randint(1, most)))
    passages = [prose(world, facts, rng) for facts in (own, others)]
    rng.shuffle(passages)
    return Item(
        id=name,
        prompt=question(asked[0].entity, [world.attribute(fact) for fact in asked], rng),
        context=tuple(passages),
        facts=(*own, *others),
        asked=asked,
    )
