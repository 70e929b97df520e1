"""Facts as sentences, and sentences as facts again.

`parse` reads what a policy wrote, which need not be well formed. A statement is a sentence that fits `SENTENCE` word
for word, white space aside; attribute, entity and value may be any words, of the world or not. Whatever else stands
there, an unfinished sentence among it, is rubbish: it states something that nothing supports.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tureen.text.segments import Span
from tureen_training.worlds.almanac.world import Fact, Item, World

_SENTENCE = re.compile(r"[^.]*(?:\.|$)")


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence and the fact it states; None for rubbish. span: characters of the response."""

    span: Span
    fact: Fact | None


SENTENCE = "The {attribute} of {entity} is {value}."
_STATEMENT = re.compile(r"The (?P<attribute>\w+) of (?P<entity>\w+) is (?P<value>\w+)\.")


def prose(facts: Iterable[Fact]) -> str:
    """A sentence for each fact, in their order."""
    return " ".join(SENTENCE.format(**fact._asdict()) for fact in facts)


_QUESTIONS = (
    "Tell me the {what} of {entity}.",
    "State the {what} of {entity}.",
    "I wish to know the {what} of {entity}.",
)


def question(entity: str, attributes: Sequence[str], rng: random.Random) -> str:
    what = attributes[0]
    if len(attributes) > 1:
        what = ", ".join(attributes[:-1]) + " and " + attributes[-1]
    return rng.choice(_QUESTIONS).format(what=what, entity=entity)


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
    match = _STATEMENT.fullmatch(text)
    return None if match is None else Fact(match["entity"], match["attribute"], match["value"])


def make_item(world: World, name: str, rng: random.Random, *, most: int = 3) -> Item:
    """A question on one entity, whose passage stands beside that of an entity of another kind.

    Each passage leaves out one attribute. most: facts that are asked for.
    """
    own, others = (facts[:-1] for facts in world.two(rng))
    asked = tuple(rng.sample(own, rng.randint(1, most)))
    passages = [prose(facts) for facts in (own, others)]
    rng.shuffle(passages)
    return Item(
        id=name,
        prompt=question(asked[0].entity, [fact.attribute for fact in asked], rng),
        context=tuple(passages),
        facts=(*own, *others),
        asked=asked,
    )
