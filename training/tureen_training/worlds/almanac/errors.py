"""Responses with errors that are known because they were made: candidates for raters, and imperfect demonstrations."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tureen_training.worlds.almanac.render import prose
from tureen_training.worlds.almanac.world import Fact, Item, World


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """How many of each kind a response is to have, at most as many as the item allows: one fact is always
    stated, and only facts of the passages can be added. repeated: what is stated already is stated again, which
    nobody asked for either. rubbish: one sentence is spoilt."""

    wrong: int = 0
    unasked: int = 0
    repeated: int = 0
    missing: int = 0
    rubbish: bool = False


def respond(world: World, item: Item, errors: Errors, rng: random.Random) -> str:
    """A response to the question with the errors asked for."""
    asked = list(item.asked)
    missing = min(errors.missing, len(asked) - 1)
    left_out = set(rng.sample(range(len(asked)), missing))
    stated = [fact for index, fact in enumerate(asked) if index not in left_out]
    spoilt = set(rng.sample(range(len(stated)), min(errors.wrong, len(stated))))
    stated = [
        wrong_fact(world, fact, rng) if index in spoilt else fact
        for index, fact in enumerate(stated)
    ]
    spare = [fact for fact in item.facts if fact not in item.asked]
    added = rng.sample(spare, min(errors.unasked, len(spare)))
    # what is added comes last, as an afterthought, and of the same entity first
    added.sort(key=lambda fact: fact.entity != item.entity)
    told = [*stated, *added]
    for fact in rng.choices(told, k=errors.repeated):
        told.insert(rng.randint(told.index(fact) + 1, len(told)), fact)
    text = prose(told)
    return _spoil(text, rng) if errors.rubbish else text


def wrong_fact(world: World, fact: Fact, rng: random.Random) -> Fact:
    """The same attribute with another value."""
    return fact._replace(
        value=rng.choice([value for value in world.values(fact.attribute) if value != fact.value])
    )


def _spoil(text: str, rng: random.Random) -> str:
    """As a policy that has gone astray writes: words in disorder, stammered, or a text that breaks off."""
    words = text.split()
    cut = rng.randrange(1, len(words))
    match rng.randrange(3):
        case 0:
            return " ".join(words[:cut])
        case 1:
            return " ".join([*words[:cut], words[cut - 1], *words[cut - 1 :]])
        case _:
            words[cut - 1], words[cut] = words[cut], words[cut - 1]
            return " ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What the writers of demonstrations do wrong: seldom anywhere, and often with some attributes.

    One in three attributes of each kind of entity has a habit of each error, by the seed. So a policy that
    imitates them errs in its most probable response as well, not in samples alone.

    slip: probability of an error where there is no habit. habit: where there is. Both are of each fact for
    wrong and missing ones (one fact is always stated), and of each response for an unasked one, where the
    attribute asked for first decides.
    """

    slip: float = 0.08
    habit: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.slip <= self.habit <= 1:
            raise ValueError(
                f"slip {self.slip} and habit {self.habit} must be probabilities, slip at most habit"
            )

    def probability(self, error: str, attribute: str) -> float:
        drawn = random.Random(f"habit:{self.seed}:{error}:{attribute}").random()
        return self.habit if drawn < 1 / 3 else self.slip


def demonstrate(world: World, item: Item, habits: Habits, rng: random.Random) -> str:
    """What a writer with these habits responds."""

    def errs(error: str, fact: Fact) -> bool:
        return rng.random() < habits.probability(error, fact.attribute)

    kept: Sequence[Fact] = [fact for fact in item.asked if not errs("missing", fact)]
    kept = kept or [rng.choice(item.asked)]
    stated = [wrong_fact(world, f, rng) if errs("wrong", f) else f for f in kept]
    others = [fact for fact in item.facts if fact not in item.asked]
    spare = [fact for fact in others if fact.entity == item.entity] or others
    if errs("unasked", item.asked[0]):
        stated.append(rng.choice(spare))
    return prose(stated)
