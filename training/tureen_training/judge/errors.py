"""What can go wrong when a judge is asked; an error is counted, it is never a score."""

from __future__ import annotations

from enum import StrEnum


class Failure(StrEnum):
    """Kinds of failed verdicts, as they are counted."""

    # of the conversation with the endpoint
    UNREACHABLE = "unreachable"  # no connection
    TIMEOUT = "timeout"  # no answer in time
    RATE_LIMITED = "rate_limited"  # HTTP 429, as often as the retries allow
    SERVER_ERROR = "server_error"  # HTTP 5xx
    DENIED = "denied"  # HTTP 401, 403
    NOT_FOUND = "not_found"  # HTTP 404: wrong URL or unknown model
    REJECTED = "rejected"  # any other status than 200
    BROKEN_RESPONSE = "broken_response"  # not JSON, cut off, or not a chat completion
    # of what the judge wrote
    EMPTY = "empty"  # no text
    CUT_OFF = "cut_off"  # the judge ran into max_tokens
    REFUSAL = "refusal"  # the judge declined, or a filter did
    UNREADABLE = "unreadable"  # no verdict where the rule looks for one
    CONTRADICTORY = "contradictory"  # several verdicts that differ
    OUT_OF_SCALE = "out_of_scale"  # a number or word that the scale does not have


FATAL = frozenset({Failure.UNREACHABLE, Failure.DENIED, Failure.NOT_FOUND})
"""No question would fare better."""


class JudgeError(Exception):
    """A question without a verdict. failure: its kind. retry_after_s: what the endpoint asked for."""

    def __init__(
        self, failure: Failure, message: str, *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.failure, self.message, self.retry_after_s = failure, message, retry_after_s

    def __reduce__(self):
        return _rebuild, (self.failure, self.message, self.retry_after_s)


def _rebuild(failure: Failure, message: str, retry_after_s: float | None) -> JudgeError:
    return JudgeError(failure, message, retry_after_s=retry_after_s)
