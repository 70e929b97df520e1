"""Facts as sentences, and sentences as facts again.

`parse` reads what a policy wrote, which need not be well formed. A statement is a sentence that fits one of the
templates word for word, white space and the case of its first letter aside; its values may be any word, of the world or
not. A pronoun stands for the entity last named, and for the one asked about where none was named. Whatever else stands
there, an unfinished sentence among it, is rubbish: it states something that nothing supports.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from tureen.text.segments import Span
from tureen_training.worlds.almanac.world import Attribute, Entity, Fact, Item, World, kinds_of

PRONOUNS = ("It", "She", "He")
PRONOUN_SHARE = 0.5
"""Of the sentences that could name the entity again."""

_SENTENCE = re.compile(r"[^.]*(?:\.|$)")


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence and the fact it states; None for rubbish. span: characters of the response."""

    span: Span
    fact: Fact | None


def sentence(attribute: Attribute, subject: str, value: str, rng: random.Random) -> str:
    return rng.choice(attribute.templates).format(e=subject, v=value)


def prose(world: World, facts: Sequence[Fact], pronouns: dict[str, str], rng: random.Random) -> str:
    """The facts in their order; an entity is named at first and sometimes again.

    Args:
        pronouns: of each entity that is spoken of.
    """
    sentences: list[str] = []
    named = ""
    for fact in facts:
        again = fact.entity == named and rng.random() < PRONOUN_SHARE
        subject = pronouns[fact.entity] if again else fact.entity
        named = fact.entity
        sentences.append(sentence(world.attribute(fact), subject, fact.value, rng))
    return " ".join(sentences)


def passage(world: World, entity: Entity, facts: Sequence[Fact], rng: random.Random) -> str:
    return prose(world, facts, {entity.name: entity.pronoun}, rng)


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


def parse(response: str, about: str) -> list[Statement]:
    """The statements of a response, in order.

    Args:
        about: the entity that a pronoun stands for before any is named.
    """
    statements: list[Statement] = []
    named = about
    for match in _SENTENCE.finditer(response):
        text = match.group()
        start = match.start() + len(text) - len(text.lstrip())
        if start == match.end():
            continue
        fact = _fact(" ".join(text.split()), named)
        if fact is not None:
            named = fact.entity
        statements.append(Statement(Span(start, match.end()), fact))
    return statements


def _fact(text: str, named: str) -> Fact | None:
    text = text[:1].upper() + text[1:]
    for pattern, attribute in _patterns():
        match = pattern.fullmatch(text)
        if match:
            entity = named if match["e"] in PRONOUNS else match["e"]
            return Fact(entity, attribute, match["v"])
    return None


def make_item(
    world: World,
    number: str,
    entity: Entity,
    distractor: Entity,
    rng: random.Random,
    *,
    most: int = 3,
) -> Item:
    """A question on one entity, whose passage stands beside that of another entity of the same kind.

    Each passage leaves out one attribute. most: facts that are asked for.
    """
    told: list[list[Fact]] = []
    for one in (entity, distractor):
        facts = list(one.facts)
        rng.shuffle(facts)
        told.append(facts[:-1])
    asked = tuple(rng.sample(told[0], rng.randint(1, most)))
    passages = [
        passage(world, one, facts, rng)
        for one, facts in zip((entity, distractor), told, strict=True)
    ]
    rng.shuffle(passages)
    return Item(
        id=number,
        prompt=question(entity.name, [world.attribute(fact) for fact in asked], rng),
        context=tuple(passages),
        facts=tuple(fact for facts in told for fact in facts),
        asked=asked,
    )


def pronouns_of(entities: Iterable[Entity]) -> dict[str, str]:
    return {entity.name: entity.pronoun for entity in entities}
