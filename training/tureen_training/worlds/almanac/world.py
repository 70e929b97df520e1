"""Entities with invented names, and facts about them: all a function of one seed.

An almanac appears anew every year: the names stay, the facts are drawn afresh for each page. So what a passage states
is found in no other text, and no response can be known by heart. Every name, attribute and value is one word, and
every fact is stated in the same way, so that a policy of 0.2M numbers learns to read them within minutes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple


class Fact(NamedTuple):
    """One attribute of an entity, and its value."""

    entity: str
    attribute: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """name, values: what it is called and what it may be, one word each. No two attributes share a name."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    name: str
    attributes: tuple[Attribute, ...]


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
YEARS = [str(year) for year in range(1507, 1890, 32)]
TRADES = (
    "baker brewer cooper dyer fisher glazier mason miller painter saddler tailor weaver".split()
)
PETS = "badger donkey ferret goose heron magpie parrot raven tortoise weasel".split()
INSTRUMENTS = "cello drum fiddle flute harp horn lute organ trumpet zither".split()
DISHES = "bread cheese cider dumplings honey mustard pickles plums sausages trout".split()
COLOURS = "amber black blue brown crimson green grey purple white yellow".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MATERIALS = "basalt brick granite iron limestone marble oak sandstone slate timber".split()
MONTHS = "January March April May June July September October November December".split()
DRINKS = "beer broth cocoa coffee lemonade mead milk perry tea wine".split()
PLACES = 12
"""So many towns, and so many rivers."""

_RESERVED = (
    *(*NUMBERS, *TRADES, *PETS, *INSTRUMENTS, *DISHES, *COLOURS, *DAYS, *MATERIALS, *MONTHS),
    *DRINKS,
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
    said = {
        "person": {"birthplace": towns, "trade": TRADES, "pet": PETS, "instrument": INSTRUMENTS},
        "town": {"dish": DISHES, "founding": YEARS, "flag": COLOURS, "market": DAYS},
        "bridge": {"opening": YEARS, "material": MATERIALS, "toll": NUMBERS, "river": rivers},
        "festival": {"month": MONTHS, "length": NUMBERS, "host": towns, "drink": DRINKS},
    }
    return tuple(
        Kind(
            name=kind,
            attributes=tuple(
                Attribute(name=name, values=tuple(values)) for name, values in known.items()
            ),
        )
        for kind, known in said.items()
    )


@dataclass(frozen=True, kw_only=True)
class World:
    """names: kind -> the names of its entities. places: towns and rivers, values like any other."""

    kinds: tuple[Kind, ...]
    names: dict[str, tuple[str, ...]]
    places: tuple[str, ...]
    seed: int

    @cached_property
    def _values(self) -> dict[str, tuple[str, ...]]:
        return {a.name: a.values for kind in self.kinds for a in kind.attributes}

    def values(self, attribute: str) -> tuple[str, ...]:
        """What it may be."""
        return self._values[attribute]

    def two(self, rng: random.Random) -> tuple[list[Fact], list[Fact]]:
        """All facts, in any order, of two entities of different kinds, drawn anew."""
        one, other = rng.sample(self.kinds, 2)
        return self._facts(one, rng), self._facts(other, rng)

    def _facts(self, kind: Kind, rng: random.Random) -> list[Fact]:
        entity = rng.choice(self.names[kind.name])
        facts = [Fact(entity, a.name, rng.choice(a.values)) for a in kind.attributes]
        rng.shuffle(facts)
        return facts


def make_world(*, names: int = 60, seed: int = 0) -> World:
    """So many names of each kind, all different."""
    rng = random.Random(f"almanac:{seed}")
    taken = {word.lower() for word in _RESERVED}
    towns, rivers = invented(rng, PLACES, taken), invented(rng, PLACES, taken)
    kinds = kinds_of(rivers, towns)
    return World(
        kinds=kinds,
        names={kind.name: tuple(invented(rng, names, taken)) for kind in kinds},
        places=(*towns, *rivers),
        seed=seed,
    )
