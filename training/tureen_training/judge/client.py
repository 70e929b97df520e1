"""Asks an OpenAI-compatible chat endpoint, again where that may help, several questions at once.

    with Judge("http://localhost:8000/v1", "my-judge") as judge:
        verdict = judge.ask([{"role": "user", "content": "…"}])
        rating = parse_rating(verdict.text, 1, 5)

The only file of the package that knows httpx2. Nothing is put in the place of a verdict: a question has a
`Verdict` or a `JudgeError`.
"""

from __future__ import annotations

import email.utils
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import httpx2

from tureen.client.flow import Retry
from tureen_training.judge.errors import FATAL, Failure, JudgeError

CONNECT_TIMEOUT_S = 10.0
QUOTED = 200  # characters of a foreign error that a message repeats

Message = Mapping[str, str]
"""{"role": "system" | "user" | "assistant", "content": text}."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the judge wrote. model: as the endpoint names it. tokens: as the endpoint counts them, if it does."""

    text: str
    model: str
    prompt_tokens: int | None
    completion_tokens: int | None
    attempts: int


class Judge:
    """A judge behind `{url}/chat/completions`. Safe to share between threads.

    Args:
        url: of the API, with its version: "http://localhost:8000/v1".
        model: as the endpoint calls it.
        api_key: sent as `Authorization: Bearer`; never shown in a message or a repr.
        temperature: 0 for verdicts that can be repeated. max_tokens: of the judge's answer.
        timeout_s: of one attempt. retry: when to try again; here max_retries bounds the attempts.
        max_wait_s: a longer `Retry-After` is not waited for.
        concurrency: questions under way at once in `ask_all`.
        transport: in place of the network. wait: sleeps so many seconds. draw: uniform in [0, 1).
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        temperature: float = 0.0,
        max_tokens: int = 512,
        timeout_s: float = 60.0,
        retry: Retry | None = None,
        max_wait_s: float = 120.0,
        concurrency: int = 4,
        transport: httpx2.BaseTransport | None = None,
        wait: Callable[[float], None] = time.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url is {url!r}; give one such as 'http://localhost:8000/v1'")
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}; give at least 1")
        if not timeout_s > 0:
            raise ValueError(f"timeout_s is {timeout_s}; give a positive number of seconds")
        self.url, self.model = url.rstrip("/") + "/chat/completions", model
        self._settings = {"temperature": temperature, "max_tokens": max_tokens}
        self._retry = retry or Retry()
        self._max_wait_s, self._concurrency = max_wait_s, concurrency
        self._wait, self._draw = wait, draw
        self._api_key = api_key
        self._http = httpx2.Client(
            headers={} if api_key is None else {"authorization": f"Bearer {api_key}"},
            timeout=httpx2.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
            limits=httpx2.Limits(max_connections=concurrency),
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._http.close()

    def ask(self, messages: Sequence[Message]) -> Verdict:
        """One answer of the judge.

        Raises:
            JudgeError: what the last attempt came to.
        """
        for attempt in range(self._retry.max_retries + 1):
            try:
                return self._attempt(messages, attempt + 1)
            except JudgeError as error:
                pause_s = self._pause_s(error, attempt)
                if pause_s is None:
                    tries = f" ({attempt + 1} attempts)" if attempt else ""
                    raise JudgeError(
                        error.failure, f"{error.message}{tries}", retry_after_s=error.retry_after_s
                    ) from error
                self._wait(pause_s)
        raise AssertionError("the last attempt returns or raises")

    def ask_all(
        self, questions: Iterable[Sequence[Message]]
    ) -> Iterator[tuple[int, Verdict | JudgeError]]:
        """(index of the question, what came of it) as they finish, in any order.

        `questions` is read in the caller's thread, at most `concurrency` ahead.

        Raises:
            JudgeError: one that every question would meet: no connection, no permission, no such model.
        """
        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="judge")
        waiting: dict[Future[Verdict], int] = {}
        source = enumerate(questions)
        try:
            while True:
                for index, messages in source:
                    waiting[pool.submit(self.ask, messages)] = index
                    if len(waiting) >= self._concurrency:
                        break
                if not waiting:
                    return
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield waiting.pop(future), _outcome(future)
        finally:
            pool.shutdown(cancel_futures=True)

    def _pause_s(self, error: JudgeError, attempt: int) -> float | None:
        """How long to wait before another attempt; None when there is to be none."""
        if error.failure not in _PASSING or attempt >= self._retry.max_retries:
            return None
        pause_s = self._retry.pause_s(attempt, error.retry_after_s, self._draw())
        return pause_s if pause_s <= self._max_wait_s else None

    def _attempt(self, messages: Sequence[Message], attempt: int) -> Verdict:
        body = {"model": self.model, "messages": list(messages), **self._settings}
        try:
            response = self._http.post(self.url, json=body)
        except httpx2.TimeoutException as error:
            raise JudgeError(Failure.TIMEOUT, f"{self.url} gave no answer in time") from error
        except httpx2.ConnectError as error:
            raise JudgeError(Failure.UNREACHABLE, f"{self.url}: {error}") from error
        except httpx2.TransportError as error:  # the connection broke while the answer came
            raise JudgeError(Failure.BROKEN_RESPONSE, f"{self.url}: {error}") from error
        if response.status_code != 200:
            raise self._refused(response)
        return _verdict(_document(response), attempt)

    def _refused(self, response: httpx2.Response) -> JudgeError:
        text = response.text
        if self._api_key:
            text = text.replace(
                self._api_key, "[api key]"
            )  # some endpoints repeat what they reject
        status = response.status_code
        failure = _BY_STATUS.get(
            status, Failure.SERVER_ERROR if status >= 500 else Failure.REJECTED
        )
        return JudgeError(
            failure,
            f"{self.url} answered HTTP {status}: {text[:QUOTED]}",
            retry_after_s=retry_after_s(response.headers.get("retry-after"), datetime.now(UTC)),
        )


_BY_STATUS = {
    401: Failure.DENIED,
    403: Failure.DENIED,
    404: Failure.NOT_FOUND,
    408: Failure.TIMEOUT,
    429: Failure.RATE_LIMITED,
    504: Failure.TIMEOUT,
}
_PASSING = frozenset(
    {
        Failure.UNREACHABLE,
        Failure.TIMEOUT,
        Failure.RATE_LIMITED,
        Failure.SERVER_ERROR,
        Failure.BROKEN_RESPONSE,
    }
)


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Seconds that a `Retry-After` asks for, a number or a date (RFC 9110, 10.2.3); None if it asks nothing."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def _outcome(future: Future[Verdict]) -> Verdict | JudgeError:
    try:
        return future.result()
    except JudgeError as error:
        if error.failure in FATAL:
            raise
        return error


def _document(response: httpx2.Response) -> dict[str, Any]:
    try:
        document = json.loads(response.content)
    except ValueError as error:
        raise JudgeError(
            Failure.BROKEN_RESPONSE, f"{response.url} answered something else than JSON: {error}"
        ) from error
    if not isinstance(document, dict):
        raise JudgeError(Failure.BROKEN_RESPONSE, f"{response.url} answered no JSON object")
    return document


def _verdict(document: dict[str, Any], attempt: int) -> Verdict:
    """The first choice of a chat completion; raises what keeps it from being a verdict."""
    try:
        choice = document["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        text, refusal = message.get("content"), message.get("refusal")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise JudgeError(
            Failure.BROKEN_RESPONSE,
            f"the answer is no chat completion: {json.dumps(document)[:QUOTED]}",
        ) from error
    if refusal or finish == "content_filter":
        raise JudgeError(Failure.REFUSAL, f"the judge declined: {str(refusal or finish)[:QUOTED]}")
    if finish == "length":
        raise JudgeError(
            Failure.CUT_OFF, "the judge's answer was cut off at max_tokens; raise max_tokens"
        )
    if text is not None and not isinstance(text, str):
        raise JudgeError(
            Failure.BROKEN_RESPONSE, f"content is {type(text).__name__}, not text; got no verdict"
        )
    if text is None or not text.strip():
        raise JudgeError(Failure.EMPTY, "the judge wrote nothing")
    usage = document.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    return Verdict(
        text=text,
        model=str(document.get("model", "")),
        prompt_tokens=_count(counts.get("prompt_tokens")),
        completion_tokens=_count(counts.get("completion_tokens")),
        attempts=attempt,
    )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None
