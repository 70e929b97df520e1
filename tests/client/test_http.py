"""What is particular to HTTP: answers of others than Tureen, and failures below HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from client.stand_in import StandIn

from tureen.client import AsyncRewardClient, Retry, RewardClient
from tureen.contracts import Sample
from tureen.errors import (
    BackendFailure,
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    PayloadTooLarge,
    QuotaExceeded,
    ServiceUnreachable,
    Unauthenticated,
)

NEVER = Retry(max_retries=0)


def client_of(
    answer: httpx2.Response | Callable[[httpx2.Request], httpx2.Response], **settings: Any
) -> RewardClient:
    """answer: a response, or a function of the request."""
    handler = (lambda request: answer) if isinstance(answer, httpx2.Response) else answer
    settings = {"retry": NEVER, **settings}
    return RewardClient("http://rm:8080", transport=httpx2.MockTransport(handler), **settings)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Unauthenticated),
        (403, Forbidden),
        (404, InvalidRequest),
        (302, InvalidRequest),
        (413, PayloadTooLarge),
        (429, QuotaExceeded),
        (500, BackendFailure),
        (502, ServiceUnreachable),
        (503, ServiceUnreachable),
        (504, DeadlineExceeded),
    ],
)
def test_a_status_of_something_in_between(status, kind):
    client = client_of(httpx2.Response(status, text="<html>nginx</html>"))
    with pytest.raises(kind, match=f"http://rm:8080/v1/score answered HTTP {status}") as e:
        client.score("p", ["r"])
    assert type(e.value) is kind


def test_retry_after_of_something_in_between():
    client = client_of(httpx2.Response(429, headers={"retry-after": "40"}), timeout_s=9.0)
    with pytest.raises(QuotaExceeded) as e:
        client.score("p", ["r"])
    assert e.value.retry_after_s == 40.0


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"results": [NaN]}'])
def test_a_success_that_is_no_answer(body):
    with pytest.raises(BackendFailure, match="something else than the contract"):
        client_of(httpx2.Response(200, content=body)).score("p", ["r"])


def test_a_score_that_is_no_number_names_its_place():
    body = {
        "model": "m",
        "fingerprint": "f",
        "soup": "s",
        "results": [{"scores": [{"reward": None, "heads": {}, "tokens": 1}]}],
    }
    with pytest.raises(BackendFailure, match=r"results\[0\]\.scores\[0\]\.reward: a number"):
        client_of(httpx2.Response(200, json=body)).score("p", ["r"])


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (httpx2.ConnectError("refused"), ServiceUnreachable),
        (httpx2.ConnectTimeout("late"), ServiceUnreachable),
        (httpx2.ReadError("reset"), ServiceUnreachable),
        (httpx2.RemoteProtocolError("server disconnected"), ServiceUnreachable),
        (httpx2.ReadTimeout("late"), DeadlineExceeded),
    ],
)
def test_failures_below_http(failure, kind):
    def handler(request):
        raise failure

    with pytest.raises(kind, match=f"{type(failure).__name__}: {failure}"):
        client_of(handler).score("p", ["r"])
    assert client_of(handler).healthy() is False


def test_a_connection_that_broke_is_tried_again():
    service = StandIn()
    failures = [httpx2.ReadError("reset"), httpx2.ConnectError("refused")]

    def handler(request):
        if failures:
            raise failures.pop()
        return service._http(request)

    client = client_of(handler, retry=Retry(backoff_s=0.001))
    assert client.score("p", ["r"])[0].reward == 1.0


def path_asked(address: str, ask: Callable[[RewardClient], object]) -> str:
    """Where a request of a client of this address goes; the answer is 404."""
    paths = []

    def handler(request):
        paths.append(request.url.path)
        return httpx2.Response(404)

    transport = httpx2.MockTransport(handler)
    with (
        RewardClient(address, retry=NEVER, transport=transport) as client,
        pytest.raises(InvalidRequest),
    ):
        ask(client)
    [path] = paths
    return path


def test_the_address_may_have_a_path():
    asked = path_asked("http://gateway/rm/", lambda client: client.model("org/name 1"))
    assert asked == "/rm/v1/models/org/name 1"


@pytest.mark.parametrize(
    ("address", "asked"),
    [("http://rm/v1", "/v1/score"), ("http://rm/v1/", "/v1/score"), ("http://rm/a", "/a/v1/score")],
)
def test_the_address_may_end_as_clients_of_openai_have_it(address, asked):
    assert path_asked(address, lambda client: client.score("p", ["r"])) == asked


@pytest.mark.parametrize("kind", [RewardClient, AsyncRewardClient])
def test_an_address_of_the_other_door(kind):
    with pytest.raises(InvalidRequest, match="grpc:// is for GrpcRewardClient"):
        kind("grpc://rm:8081")


def test_time_that_was_up_is_told_in_terms_of_timeout_s():
    message = "Time was up when 0 bytes of the body had come; give more in X-Request-Timeout-Ms."
    body = {"error": {"code": "deadline_exceeded", "message": message, "retryable": True}}
    client = client_of(httpx2.Response(504, json=body), timeout_s=0.5)
    with pytest.raises(DeadlineExceeded) as e:
        client.score("p", ["r"])
    assert str(e.value).startswith(
        "Time was up when 0 bytes of the body had come; give more in timeout_s. (from "
        "http://rm:8080, 1 attempt over 0.0 s of timeout_s 0.5; "
    )


@pytest.mark.parametrize("address", ["rm:8080", "ftp://rm", "", "localhost"])
def test_an_address_that_is_none(address):
    with pytest.raises(InvalidRequest, match="is no address of a service"):
        RewardClient(address)


def test_root_certificates_want_tls(tmp_path):
    with pytest.raises(InvalidRequest, match="need an https:// address"):
        RewardClient("http://rm:8080", root_certificates=tmp_path / "ca.pem")


def test_root_certificates_are_read_at_once(tmp_path):
    with pytest.raises(
        InvalidRequest, match=r"root_certificates names '.*ca.pem', and there is no"
    ):
        RewardClient("https://rm:8080", root_certificates=tmp_path / "ca.pem")


def test_a_cancelled_coroutine_leaves_nothing_behind():
    async def main():
        asked, answered = asyncio.Event(), asyncio.Event()

        async def handler(request):
            asked.set()
            await asyncio.Event().wait()
            answered.set()
            return httpx2.Response(200)

        transport = httpx2.MockTransport(handler)
        async with AsyncRewardClient("http://rm:8080", transport=transport) as client:
            task = asyncio.create_task(client.score("p", ["r"]))
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert not answered.is_set()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_an_asynchronous_source_is_read_while_results_are_awaited():
    """The second sample comes only after the first result was seen."""

    async def main():
        first_seen = asyncio.Event()

        async def samples():
            yield Sample(prompt="p", responses=("x",))
            await first_seen.wait()
            yield Sample(prompt="p", responses=("xx",))

        seen = []
        transport = StandIn().http()
        async with AsyncRewardClient("http://rm:8080", transport=transport) as client:
            async for index, result in client.stream(samples()):
                assert result.scores is not None
                seen.append((index, result.scores[0].reward))
                first_seen.set()
        return seen

    assert asyncio.run(asyncio.wait_for(main(), 10)) == [(0, 1.0), (1, 2.0)]


def test_a_stream_left_early_ends_its_tasks():
    async def main():
        async with AsyncRewardClient("http://rm:8080", transport=StandIn().http()) as client:
            stream = client.stream(Sample(prompt="p", responses=("x",)) for _ in range(99))
            async for _ in stream:
                break
            await stream.aclose()
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1
