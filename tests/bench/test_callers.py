"""The load generator against a real server: what is no score stops the measurement."""

import asyncio
from collections.abc import Iterator

import orjson
import pytest
from bench import callers
from bench.load import closed_loop
from bench.workload import Request, Workload, grpc_requests, http_requests
from doors import OpenDoors, open_doors

from tureen.v1 import reward_pb2 as pb


@pytest.fixture(scope="module")
def server() -> Iterator[OpenDoors]:
    with open_doors() as opened:
        yield opened


def doors(server: OpenDoors) -> dict:
    return {
        "http": callers.http(server.http_port),
        "grpc": callers.grpc_unary(server.target),
        "stream": callers.grpc_stream(server.target),
    }


@pytest.mark.parametrize("name", ["http", "grpc", "stream"])
def test_a_caller_brings_every_answer_to_whoever_asked(server: OpenDoors, name: str):
    samples = Workload(real=False).samples(24)
    requests = http_requests(samples) if name == "http" else grpc_requests(samples)
    answered: dict[str, str] = {}

    async def run() -> int:
        async with doors(server)[name] as call:

            async def kept(request: Request) -> bytes:
                answer = await call(request)
                if name == "http":
                    answered[request.id] = orjson.loads(answer)["results"][0]["id"]
                else:
                    answered[request.id] = pb.ScoreResponse.FromString(answer).results[0].id
                return answer

            return len((await closed_loop(kept, requests, concurrency=6)).done_s)

    assert asyncio.run(run()) == 24
    assert answered == {sample.id: sample.id for sample in samples}


@pytest.mark.parametrize("name", ["http", "grpc", "stream"])
def test_a_refusal_is_not_counted_as_an_answer(server: OpenDoors, name: str):
    nothing = pb.ScoreRequest(samples=[pb.Sample(id="1", prompt="a", responses=[""])])
    empty = {"http": b'{"samples": []}'}.get(name, nothing.SerializeToString())

    async def run() -> None:
        async with doors(server)[name] as call:
            await call(Request("1", empty))

    with pytest.raises((callers.Refused, ExceptionGroup)) as caught:
        asyncio.run(run())
    if isinstance(caught.value, ExceptionGroup):  # of the stream's task group
        assert caught.value.subgroup(callers.Refused) is not None
