"""Where policies and reward models come from, and whether that is the same place.

What a model began from is known by its name and by the SHA-256 of its weights: a copy under another name is the same
base, and another checkpoint under the same path is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from tureen.contracts import ModelInfo
from tureen.model.base import WEIGHTS
from tureen.model.files import sha256_file

BASE, WEIGHTS_HASH, ANCESTORS = "base", "base_sha256", "base_lineage"


def begun_from(source: str | Path, lineage: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a policy's lineage that says what it began from.

    Args:
        source: name or path of the base. lineage: of the base.

    Returns:
        base, base_lineage, and base_sha256 where its weights are one file on this machine.
    """
    found: dict[str, Any] = {BASE: str(source), ANCESTORS: dict(lineage)}
    place = Path(source) / WEIGHTS
    if not place.is_file():
        cached = None if Path(source).exists() else _cached(str(source))
        if cached is None:
            return found
        place = cached
    return found | {WEIGHTS_HASH: sha256_file(place)}


def _cached(name: str) -> Path | None:
    try:
        found = try_to_load_from_cache(name, WEIGHTS)
    except ValueError:  # no name of the hub
        return None
    return Path(found) if isinstance(found, str) else None


def lineage_mismatch(policy: Mapping[str, Any], reward: ModelInfo) -> str | None:
    """What to warn of when reward model and policy come from different pretraining, else None.

    They are kin where a base or an ancestor of one, by hash or by name, is one of the other's; where both know the
    hash of what bears one name, the hashes decide. A reward model of another lineage than the policy's trains it worse
    than its accuracy promises (RewardBench 2, arXiv:2506.01937, section 5.2).

    Args:
        policy: its `lineage.json`, in which `base` names what it began from and `base_lineage` how that came to be.
    """
    own = list(_ancestors(policy))
    others = [(reward.base, None), *(_base_of(one.lineage) for one in reward.ingredients)]
    if any(_same(one, other) for one in own for other in others):
        return None
    names = [str(name) for name, _ in own]
    told = " from ".join(names) if names else "a base its lineage does not name"
    return (
        f"The reward model {reward.id!r} is made from {reward.base!r}, the policy from {told}: with "
        "different pretraining the reward tends to teach less than its accuracy promises; judge "
        "the policy by other means than this reward."
    )


Ancestor = tuple[Any, str | None]
"""Name of a base, and the hash of its weights where it is known."""


def _ancestors(lineage: Mapping[str, Any]) -> Iterator[Ancestor]:
    step: Any = lineage
    while isinstance(step, Mapping) and step:
        if step.get(BASE):
            yield _base_of(step)
        step = step.get(ANCESTORS)


def _base_of(lineage: Mapping[str, Any]) -> Ancestor:
    return lineage.get(BASE), lineage.get(WEIGHTS_HASH)


def _same(one: Ancestor, other: Ancestor) -> bool:
    if one[1] is not None and other[1] is not None:
        return one[1] == other[1]
    if one[0] is None or other[0] is None:
        return False
    return one[0] == other[0] or (
        isinstance(one[0], str)
        and Path(one[0]).exists()
        and Path(one[0]).resolve() == Path(str(other[0])).resolve()
    )
