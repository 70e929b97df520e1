"""Whose batch is next on a device that several models share. A pure core: no clock, no lock, no thread.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) over seconds of the device. A model's tag
is the time it has had. Its next batch starts at the tag t and takes it to

    t' = t + seconds of the batch,

and of all that wait the least tag goes next, the least recently served at a tie. While two models both
have work their shares thus differ by no more than a batch of each, however long a batch of either is:
the fairness is one of time, not of batches. What a batch takes is known when it is over; until then an
estimate stands in the tag. Only where a batch starts decides, so a wrong estimate is made good.

A model that had nothing to do is owed nothing: when work comes it begins at the least tag of those that
have work, or, where nobody has, at the greatest there is.

`interactive` goes before `bulk` of another model by borrowing (Duda and Cheriton, Borrowed-virtual-time
scheduling, SOSP 1999): a model whose next batch is interactive is taken for one that has had `borrow_s`
less. So a person waits for no rollout but the one on the device, as long as that model is less than
`borrow_s` ahead; what is borrowed stays in its tag, so the other is never behind by more than that.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from tureen.contracts import Priority

BORROW_S: Final = 1.0


class Claim(NamedTuple):
    """Of someone who has a batch for the device. last_turn: number of their latest turn."""

    model: str
    lane: Priority
    last_turn: int


@dataclass(frozen=True, slots=True)
class Turn:
    """A batch on the device. number: 1, 2, … in the order of their starts."""

    number: int
    model: str
    tokens: int
    estimate_s: float


@dataclass(slots=True)
class _Account:
    tag_s: float
    seconds_per_token: float = 0.0  # of the latest batch


class Shares:
    """Accounts of the models of one device."""

    def __init__(self, borrow_s: float = BORROW_S) -> None:
        self._borrow_s = borrow_s
        self._accounts: dict[str, _Account] = {}
        self._turns = 0

    def tag_s(self, model: str) -> float:
        return self._account(model).tag_s

    def arrive(self, model: str, busy: Collection[str]) -> None:
        """Work comes for a model that had none. busy: models that have some, waiting or running."""
        account = self._account(model)
        tags = [self._account(one).tag_s for one in busy if one != model]
        account.tag_s = max(account.tag_s, min(tags) if tags else self._latest())

    def next(self, claims: Sequence[Claim]) -> int:
        """Which of them is next; at least one."""
        return min(range(len(claims)), key=lambda place: self._urgency(claims[place]))

    def begin(self, model: str, tokens: int) -> Turn:
        """A batch goes to the device. tokens: padding included."""
        account = self._account(model)
        self._turns += 1
        turn = Turn(self._turns, model, tokens, tokens * account.seconds_per_token)
        account.tag_s += turn.estimate_s
        return turn

    def end(self, turn: Turn, seconds: float) -> None:
        """That batch is done, and took so long."""
        account = self._account(turn.model)
        account.tag_s += seconds - turn.estimate_s
        if turn.tokens:
            account.seconds_per_token = seconds / turn.tokens

    def _urgency(self, claim: Claim) -> tuple[float, int]:
        borrowed_s = self._borrow_s if claim.lane is Priority.INTERACTIVE else 0.0
        return self._account(claim.model).tag_s - borrowed_s, claim.last_turn

    def _account(self, model: str) -> _Account:
        found = self._accounts.get(model)
        if found is None:
            found = self._accounts[model] = _Account(self._latest())
        return found

    def _latest(self) -> float:
        return max((one.tag_s for one in self._accounts.values()), default=0.0)
