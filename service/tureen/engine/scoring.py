"""What doors ask of an engine: `Scorer` in this process, `RemoteScorer` for one that lives elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from typing import Protocol

from tureen.contracts import (
    ModelInfo,
    ModelList,
    Priority,
    RankRequest,
    RankResponse,
    ScoreRequest,
    ScoreResponse,
    SoupInfo,
    SoupList,
)
from tureen.engine.limits import EngineLimits
from tureen.engine.metrics import Metrics
from tureen.errors import InvalidRequest, UnknownModel, nearest, quoted


class Answerable(Protocol):
    """A sample, or the message of one."""

    @property
    def responses(self) -> Sized: ...


class Scoring(ABC):
    """Scores requests. Its metrics are those of its own process."""

    limits: EngineLimits
    metrics: Metrics

    @abstractmethod
    def ready(self) -> tuple[bool, str]:
        """Whether to send work here, and why not."""

    @abstractmethod
    def models(self) -> ModelList: ...

    @abstractmethod
    def model(self, model_id: str | None = None) -> ModelInfo:
        """Of the default model when None.

        Raises:
            UnknownModel.
        """

    @abstractmethod
    async def score(
        self,
        request: ScoreRequest,
        *,
        deadline_ns: int | None = None,
        priority: Priority = Priority.INTERACTIVE,
        patience_s: float = 0.0,
    ) -> ScoreResponse:
        """Scores every sample; one that cannot be scored has an error in its place.

        Cancelling this call drops its work before the device sees it, unless another call waits for
        the same.

        Args:
            deadline_ns: on the clock of `time.monotonic_ns`.
            patience_s: how long to wait for permits before the refusal.
        Raises:
            TureenError: where the request fails as a whole: wrong options, no samples, too many
                responses, an unknown model, no permits, the deadline, a server that drains or is
                unfit.
        """

    @abstractmethod
    async def rank(
        self,
        request: RankRequest,
        *,
        deadline_ns: int | None = None,
        priority: Priority = Priority.INTERACTIVE,
    ) -> RankResponse:
        """Ranks the responses of one sample; raises what `score` puts in a sample's place."""

    def check_size(self, samples: Sequence[Answerable]) -> int:
        """How many responses there are, within the limits. Of contracts or of protobuf messages.

        Raises:
            InvalidRequest: no sample, or more than `max_client_batch_size`; a sample without a
                response counts as one, because it is answered too.
        """
        if not samples:
            raise InvalidRequest("samples is empty; send at least one.", field="samples", got=0)
        self.check_count(len(samples), "samples")
        count = sum(max(1, len(one.responses)) for one in samples)
        self.check_count(count, "responses")
        return count

    def check_count(self, count: int, what: str) -> None:
        """Raises InvalidRequest for more samples or responses than `max_client_batch_size`."""
        most = self.limits.max_client_batch_size
        if count > most:
            raise InvalidRequest(
                f"the request has {count} {what}; this server takes {most} in one "
                "(max_client_batch_size). Split it.",
                field="samples",
                got=count,
                limit=most,
            )


def unknown_model(name: str, known: Iterable[str]) -> UnknownModel:
    return UnknownModel(
        f"model {quoted(name)} is not served here{nearest(name, known)}", field="model", got=name
    )


class SoupKeeping(Protocol):
    """Changes soups of one model: `soups.Soups` says how."""

    async def list(self) -> SoupList: ...

    async def create(self, coefficients: Mapping[str, float], by: str) -> SoupInfo: ...

    async def activate(self, fingerprint: str, by: str) -> SoupInfo: ...

    async def rollback(self, fingerprint: str | None, by: str) -> SoupInfo: ...

    async def shadow(self, fingerprint: str, by: str) -> SoupInfo: ...


SoupsOf = Callable[[str], SoupKeeping]
"""Id of a model that is served -> its soups."""
