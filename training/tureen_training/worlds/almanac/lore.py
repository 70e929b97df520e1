"""The other text of the world: what a policy knows by heart, and could forget while it is aligned.

Realms and proverbs are the same in every text and are learned by heart; articles state facts of two entities and then
state them again, so that whoever models them learns to look back. Perplexity on held-out text and the share
of cloze questions answered measure the alignment tax.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tureen_training.worlds.almanac.render import prose
from tureen_training.worlds.almanac.world import World, invented

GOODS = "amber barley copper glass hemp ivory pepper saffron salt silk timber wool".split()
BEASTS = "bear boar crane eagle fox griffin hare lion otter stag swan wolf".split()
SEASONS = "autumn spring summer winter".split()
_ADJECTIVES = "blind bold careful cold hungry idle late lucky patient proud silent wet".split()
_CREATURES = "cat crow dog fool goat guest hen king monk mouse mule sailor thief widow".split()
_VERBS = "counts fears finds forgets hides keeps loses mends sells steals trusts wants".split()
_THINGS = "boots bread candles coins doors eggs keys ladders nails ropes shoes sieves".split()

ARTICLES, REALMS = 0.75, 0.15
"""Shares of the pretraining text; the rest are proverbs."""

TRAITS = (
    ("The capital of {r} is {v}.", "names"),
    ("The arms of {r} show a {v}.", BEASTS),
    ("The realm of {r} trades in {v}.", GOODS),
    ("The crown of {r} is handed on in {v}.", SEASONS),
)


@dataclass(frozen=True, slots=True)
class Lore:
    """Sentences known by heart, each with the words its last one was chosen from."""

    realms: tuple[tuple[tuple[str, tuple[str, ...]], ...], ...]
    proverbs: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloze:
    """A sentence without its last word. choices: words it may be, the answer among them; each is preceded by a
    space."""

    id: str
    prompt: str
    answer: str
    choices: tuple[str, ...]


def make_lore(world: World, *, realms: int = 24, proverbs: int = 36) -> Lore:
    rng = random.Random(f"lore:{world.seed}")
    known = [*world.places, *(name for names in world.names.values() for name in names)]
    taken = {name.lower() for name in known}
    own, capitals = invented(rng, realms, taken), invented(rng, realms, taken)
    told = []
    for realm, capital in zip(own, capitals, strict=True):
        traits = []
        for template, words in TRAITS:
            choices = tuple(capitals) if words == "names" else tuple(words)
            value = capital if words == "names" else rng.choice(choices)
            traits.append((template.format(r=realm, v=value), choices))
        told.append(tuple(traits))
    subjects = rng.sample([(a, c) for a in _ADJECTIVES for c in _CREATURES], proverbs)
    said = tuple(
        (f"The {a} {c} {rng.choice(_VERBS)} {rng.choice(_THINGS)}.", tuple(_THINGS))
        for a, c in subjects
    )
    return Lore(realms=tuple(told), proverbs=said)


def cloze(lore: Lore) -> Iterator[Cloze]:
    """A question on every sentence known by heart."""
    known = [*(trait for realm in lore.realms for trait in realm), *lore.proverbs]
    for number, (sentence, choices) in enumerate(known):
        prompt, _, answer = sentence.removesuffix(".").rpartition(" ")
        yield Cloze(id=f"cloze-{number}", prompt=prompt, answer=answer, choices=choices)


def article(world: World, rng: random.Random) -> str:
    """Two facts of each of two entities, and the same twice more in another order.

    Two thirds of the facts can be read off what stands before: text that rewards looking back is what small
    models learn to look back from, within the minutes a demonstration has.
    """
    facts = [fact for told in world.two(rng) for fact in told[:2]]
    parts = [prose(facts)]
    for _ in range(2):
        rng.shuffle(facts)
        parts.append(prose(facts))
    return "Almanac: {}\nIn short: {}\nOnce more: {}".format(*parts)


def text(world: World, lore: Lore, rng: random.Random) -> str:
    """One piece of pretraining text: an article on two entities, a realm, or some proverbs."""
    drawn = rng.random()
    if drawn < ARTICLES:
        return article(world, rng)
    if drawn < ARTICLES + REALMS:
        traits = [sentence for sentence, _ in rng.choice(lore.realms)]
        rng.shuffle(traits)
        return " ".join(traits)
    return " ".join(sentence for sentence, _ in rng.sample(lore.proverbs, 4))
