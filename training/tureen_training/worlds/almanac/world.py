"""Entities with invented names, their facts, and questions on passages: all a function of one seed."""

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
    name: str
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, slots=True)
class Entity:
    """pronoun: that stands for it at the start of a sentence. facts: one for each attribute of its kind."""

    name: str
    kind: str
    pronoun: str
    facts: tuple[Fact, ...]


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
QUALIFIERS = "Lower New Old Upper".split()
BRIDGES = "Bridge Crossing Viaduct".split()
FESTIVALS = "Fair Feast Parade".split()

_RESERVED = (
    *(*NUMBERS, *TRADES, *PETS, *INSTRUMENTS, *DISHES, *COLOURS, *MATERIALS, *MONTHS, *DRINKS),
    *(*QUALIFIERS, *BRIDGES, *FESTIVALS),
)


def invented(rng: random.Random, count: int, taken: set[str]) -> list[str]:
    """So many new names of one or two syllables; they are added to `taken`."""
    names: list[str] = []
    while len(names) < count:
        syllables = rng.choice((1, 2, 2, 2))
        parts = [rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(syllables)]
        name = ("".join(parts) + rng.choice(_CODAS)).capitalize()
        if name.lower() not in taken and 4 <= len(name) <= 8:
            taken.add(name.lower())
            names.append(name)
    return names


def kinds_of(rivers: Sequence[str], towns: Sequence[str]) -> tuple[Kind, ...]:
    def attribute(name: str, asked: str, values: Sequence[str], *templates: str) -> Attribute:
        return Attribute(name=name, asked=asked, values=tuple(values), templates=templates)

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
    """names: every invented word."""

    kinds: tuple[Kind, ...]
    entities: tuple[Entity, ...]
    names: tuple[str, ...]
    seed: int

    @cached_property
    def _attributes(self) -> dict[tuple[str, str], Attribute]:
        kinds = {kind.name: kind for kind in self.kinds}
        return {
            (entity.name, attribute.name): attribute
            for entity in self.entities
            for attribute in kinds[entity.kind].attributes
        }

    def attribute(self, fact: Fact) -> Attribute:
        """What a fact of one of the entities is about."""
        return self._attributes[fact.entity, fact.attribute]


def make_world(*, entities: int = 1600, seed: int = 0) -> World:
    """A quarter of the entities of each kind.

    Raises:
        ValueError: more of them than there are names.
    """
    rng = random.Random(f"almanac:{seed}")
    taken = {word.lower() for word in _RESERVED}
    first, family = invented(rng, 48, taken), invented(rng, 48, taken)
    towns, rivers = invented(rng, 40, taken), invented(rng, 24, taken)
    places = [*first, *family, *towns]
    women = set(first[::2])
    kinds = kinds_of(rivers, towns)
    full = {
        "person": [f"{one} {other}" for one in first for other in family],
        "town": [f"{one} {other}" for one in QUALIFIERS for other in places],
        "bridge": [f"{one} {other}" for one in places for other in BRIDGES],
        "festival": [f"{one} {other}" for one in places for other in FESTIVALS],
    }
    found: list[Entity] = []
    for kind in kinds:
        if entities // len(kinds) > len(full[kind.name]):
            raise ValueError(
                f"{entities} entities ask for {entities // len(kinds)} names of each kind; a {kind.name} "
                f"has one of {len(full[kind.name])}"
            )
        for name in rng.sample(full[kind.name], entities // len(kinds)):
            facts = (Fact(name, a.name, rng.choice(a.values)) for a in kind.attributes)
            pronoun = "It" if kind.name != "person" else "She" if name.split()[0] in women else "He"
            found.append(Entity(name, kind.name, pronoun, tuple(facts)))
    return World(
        kinds=kinds,
        entities=tuple(found),
        names=(*first, *family, *towns, *rivers),
        seed=seed,
    )
