"""Entities with invented names, and facts about them: all a function of one seed.

An almanac appears anew every year: the names stay, the facts are drawn afresh for each page. So what a passage states
is found in no other text, and no response can be known by heart.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple


class Fact(NamedTuple):
    """One attribute of an entity, by the entity's full name, and its value."""

    entity: str
    attribute: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """asked: what a question calls it. templates: sentences with {e}, the entity, and {v}, the value; each ends in
    a full stop. values: what it may be, one word each."""

    name: str
    asked: str
    templates: tuple[str, ...]
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """title: what follows the invented name in the name of each of them, if anything."""

    name: str
    attributes: tuple[Attribute, ...]
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One question.

    context: the passages. facts: all that the passages state. asked: those of them the question asks for, in
    the order in which it asks.
    """

    id: str
    prompt: str
    context: tuple[str, ...]
    facts: tuple[Fact, ...]
    asked: tuple[Fact, ...]

    @property
    def entity(self) -> str:
        return self.asked[0].entity


_ONSETS = "b br d dr f fl g gr h k l m n p r s st t tr v w".split()
_VOWELS = "a e i o u ae ei oa".split()
_CODAS = "l ld m n nd r rn s sk th v x".split()

NUMBERS = "three four five six seven nine ten twelve fourteen fifteen twenty thirty".split()
YEARS = [str(year) for year in range(1507, 1890, 13)]
TRADES = (
    "baker brewer cooper dyer fisher glazier mason miller painter saddler tailor weaver".split()
)
PETS = "badger donkey ferret goose heron magpie parrot raven tortoise weasel".split()
INSTRUMENTS = "cello drum fiddle flute harp horn lute organ trumpet zither".split()
DISHES = "bread cheese cider dumplings honey mustard pickles plums sausages trout".split()
COLOURS = "amber black blue brown crimson green grey purple white yellow".split()
MATERIALS = "basalt brick granite iron limestone marble oak sandstone slate timber".split()
MONTHS = "January March April May June July September October November December".split()
DRINKS = "beer broth cocoa coffee lemonade mead milk perry tea wine".split()

_RESERVED = (
    *(*NUMBERS, *TRADES, *PETS, *INSTRUMENTS, *DISHES, *COLOURS, *MATERIALS, *MONTHS, *DRINKS),
    *("Bridge", "Fair"),
)


def invented(rng: random.Random, count: int, taken: set[str]) -> list[str]:
    """So many new names of one or two syllables; they are added to `taken`.

    Raises:
        ValueError: there are not so many.
    """
    names: list[str] = []
    for _ in range(100 * (count + len(taken))):
        if len(names) == count:
            return names
        syllables = rng.choice((1, 2, 2, 2))
        parts = [rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(syllables)]
        name = ("".join(parts) + rng.choice(_CODAS)).capitalize()
        if name.lower() not in taken and 4 <= len(name) <= 8:
            taken.add(name.lower())
            names.append(name)
    raise ValueError(f"no {count} names beside {len(taken)} others were found; ask for fewer")


def kinds_of(rivers: Sequence[str], towns: Sequence[str]) -> tuple[Kind, ...]:
    def attribute(name: str, asked: str, values: Sequence[str], *templates: str) -> Attribute:
        plain = f"The {asked} of {{e}} is {{v}}."
        return Attribute(
            name=name, asked=asked, values=tuple(values), templates=(plain, *templates)
        )

    return (
        Kind(
            name="person",
            attributes=(
                attribute(
                    "birthplace", "birthplace", towns, "{e} was born in {v}.", "{e} comes from {v}."
                ),
                attribute(
                    "trade", "trade", TRADES, "{e} is a {v} by trade.", "{e} works as a {v}."
                ),
                attribute("pet", "pet", PETS, "{e} keeps a {v}.", "{e} has a tame {v}."),
                attribute(
                    "instrument",
                    "instrument",
                    INSTRUMENTS,
                    "{e} plays the {v}.",
                    "{e} is often heard on the {v}.",
                ),
            ),
        ),
        Kind(
            name="town",
            attributes=(
                attribute(
                    "river", "river", rivers, "{e} lies on the river {v}.", "{e} grew beside the {v}."
                ),
                attribute("dish", "dish", DISHES, "{e} is famous for its {v}.", "{e} sells fine {v}."),
                attribute(
                    "founding",
                    "founding year",
                    YEARS,
                    "{e} was founded in {v}.",
                    "{e} has stood since {v}.",
                ),
                attribute(
                    "flag", "flag", COLOURS, "{e} flies a {v} flag.", "{e} has a flag of {v}."
                ),
            ),
        ),
        Kind(
            name="bridge",
            title=" Bridge",
            attributes=(
                attribute(
                    "opening", "opening year", YEARS, "{e} was opened in {v}.", "{e} dates from {v}."
                ),
                attribute("material", "material", MATERIALS, "{e} is made of {v}.", "{e} is of {v}."),
                attribute(
                    "arches", "number of arches", NUMBERS, "{e} has {v} arches.", "{e} rests on {v} arches."
                ),
                attribute("river", "river", rivers, "{e} spans the {v}.", "{e} crosses the river {v}."),
            ),
        ),
        Kind(
            name="festival",
            title=" Fair",
            attributes=(
                attribute("month", "month", MONTHS, "{e} is held in {v}.", "{e} begins each {v}."),
                attribute("length", "length", NUMBERS, "{e} lasts {v} days.", "{e} goes on for {v} days."),
                attribute("town", "town", towns, "{e} takes place in {v}.", "{e} fills the streets of {v}."),
                attribute("drink", "drink", DRINKS, "{e} is known for its {v}.", "{e} serves hot {v}."),
            ),
        ),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class World:
    """names: kind -> the full names of its entities. places: towns and rivers, values like any other."""

    kinds: tuple[Kind, ...]
    names: dict[str, tuple[str, ...]]
    places: tuple[str, ...]
    seed: int

    @cached_property
    def _attributes(self) -> dict[tuple[str, str], Attribute]:
        return {
            (name, attribute.name): attribute
            for kind in self.kinds
            for name in self.names[kind.name]
            for attribute in kind.attributes
        }

    def attribute(self, fact: Fact) -> Attribute:
        """What a fact of one of the entities is about."""
        return self._attributes[fact.entity, fact.attribute]

    def two(self, rng: random.Random) -> tuple[list[Fact], list[Fact]]:
        """All facts, in any order, of two entities of one kind, drawn anew."""
        kind = rng.choice(self.kinds)
        one, other = rng.sample(self.names[kind.name], 2)
        return self._facts(kind, one, rng), self._facts(kind, other, rng)

    def _facts(self, kind: Kind, entity: str, rng: random.Random) -> list[Fact]:
        facts = [Fact(entity, a.name, rng.choice(a.values)) for a in kind.attributes]
        rng.shuffle(facts)
        return facts


def make_world(*, names: int = 60, seed: int = 0) -> World:
    """So many names of each kind, all different."""
    rng = random.Random(f"almanac:{seed}")
    taken = {word.lower() for word in _RESERVED}
    towns, rivers = invented(rng, 30, taken), invented(rng, 20, taken)
    kinds = kinds_of(rivers, towns)
    return World(
        kinds=kinds,
        names={k.name: tuple(n + k.title for n in invented(rng, names, taken)) for k in kinds},
        places=(*towns, *rivers),
        seed=seed,
    )
