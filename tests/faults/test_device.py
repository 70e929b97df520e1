"""The device fails in every way it can: who asked is answered or told to try again, and health says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2
import numpy as np
import pytest
from doors import OpenDoors, RawGrpc, open_doors, refusal_of
from fault_watch import ILL, WELL, health, wait_for_health
from grpc import RpcError

from tureen.engine.backend import BatchTooLarge
from tureen.engine.stub_backend import stub_model
from tureen.text.batch import Batch
from tureen.v1 import reward_pb2 as pb

POISON = "~"
_POISON_ID = stub_model().encoder.tokenizer.convert_tokens_to_ids(POISON)
TEXTS = ("One.", f"Two {POISON}.", "Three, which is longer than the others.")

Script = Callable[[Batch], np.ndarray]


@dataclass(frozen=True)
class Answered:
    """Of one sample: its reward, or the code of its error and whether to try again."""

    reward: float | None
    code: str | None = None
    retryable: bool | None = None


def ask_http(doors: OpenDoors, texts: tuple[str, ...]) -> list[Answered]:
    body = {"samples": [{"prompt": "a", "responses": [text]} for text in texts]}
    answer = httpx2.post(f"{doors.url}/v1/score", json=body, timeout=60).json()
    if "error" in answer:
        return [Answered(None, answer["error"]["code"], answer["error"]["retryable"])] * len(texts)
    return [
        Answered(one["scores"][0]["reward"])
        if one["error"] is None
        else Answered(None, one["error"]["code"], one["error"]["retryable"])
        for one in answer["results"]
    ]


def ask_grpc(doors: OpenDoors, texts: tuple[str, ...]) -> list[Answered]:
    samples = [pb.Sample(prompt="a", responses=[text]) for text in texts]
    raw = RawGrpc(doors.target)
    try:
        message = pb.ScoreRequest(samples=samples).SerializeToString()
        answer = pb.ScoreResponse.FromString(raw.method("Score")(message, timeout=60))
    except RpcError as error:
        return [Answered(None, refusal_of(error).code, True)] * len(texts)
    finally:
        raw.channel.close()
    return [
        Answered(None, one.error.code, one.error.retryable)
        if one.HasField("error")
        else Answered(one.scores[0].reward)
        for one in answer.results
    ]


@pytest.fixture(params=[ask_http, ask_grpc], ids=["http", "grpc"])
def ask(request: pytest.FixtureRequest) -> Callable[[OpenDoors, tuple[str, ...]], list[Answered]]:
    return request.param


@pytest.fixture
def doors():
    with open_doors(cache_bytes=0) as opened:
        yield opened


def counted(doors: OpenDoors, name: str) -> float:
    found = doors.admission.metrics.registry.get_sample_value(name, {"model": "stub"})
    assert found is not None, name
    return found


def poisoned(batch: Batch) -> np.ndarray:
    """(B,), True for rows with the poisonous token."""
    return (batch.input_ids == _POISON_ID).any(axis=1)


def raises(honest: Script) -> Script:
    def script(batch: Batch) -> np.ndarray:
        if poisoned(batch).any():
            raise ValueError("an exception of the backend")
        return honest(batch)

    return script


def gives_nan(honest: Script) -> Script:
    def script(batch: Batch) -> np.ndarray:
        values = honest(batch).copy()
        values[poisoned(batch)] = np.nan
        return values

    return script


def dies(honest: Script) -> Script:
    def script(batch: Batch) -> np.ndarray:
        if poisoned(batch).any():
            raise SystemExit  # not an Exception: it ends the thread
        return honest(batch)

    return script


@pytest.mark.parametrize(
    ("fault", "metric"),
    [
        (raises, "tureen_isolated_entries_total"),
        (gives_nan, "tureen_nonfinite_entries_total"),
        (dies, "tureen_worker_restarts_total"),
    ],
    ids=["exception", "nan", "dead worker"],
)
def test_one_response_fails_and_its_neighbours_are_served(
    doors: OpenDoors, ask: Any, fault: Callable[[Script], Script], metric: str
):
    healthy = ask(doors, TEXTS)
    assert None not in [one.reward for one in healthy]
    doors.gate.script = fault(doors.gate.script)
    first, second, third = ask(doors, TEXTS)
    assert second == Answered(None, "backend_failure", True)
    assert (first, third) == (healthy[0], healthy[2])
    assert counted(doors, metric) >= 1
    assert doors.counts().errors == {"backend_failure": 1}
    wait_for_health(doors, WELL)
    assert doors.in_flight() == 0


def test_out_of_memory_costs_nobody_an_answer(doors: OpenDoors, ask: Any):
    healthy, honest = ask(doors, TEXTS), doors.gate.script
    budget = counted(doors, "tureen_max_batch_tokens")

    def small(batch: Batch) -> np.ndarray:
        if batch.rows > 1:
            raise BatchTooLarge("out of memory")
        return honest(batch)

    doors.gate.script = small
    assert ask(doors, TEXTS) == healthy
    assert counted(doors, "tureen_max_batch_tokens") < budget
    assert doors.counts().errors == {}
    assert health(doors) == WELL


def test_while_the_device_is_gone_health_says_so_and_it_comes_back(doors: OpenDoors, ask: Any):
    healthy, honest = ask(doors, TEXTS), doors.gate.script

    def gone(batch: Batch) -> np.ndarray:
        raise RuntimeError("CUDA error: device not available")

    doors.gate.script = gone
    for answered in (*ask(doors, TEXTS), *ask(doors, TEXTS)):
        assert answered.reward is None
        assert answered.code in ("backend_failure", "overloaded")
        assert answered.retryable
    wait_for_health(doors, ILL)
    assert doors.in_flight() == 0
    doors.gate.script = honest
    wait_for_health(doors, WELL)
    assert ask(doors, TEXTS) == healthy


def test_a_worker_that_dies_for_good_answers_everybody_and_stays_unready(
    doors: OpenDoors, ask: Any
):
    def deadly(batch: Batch) -> np.ndarray:
        raise SystemExit

    doors.gate.script = deadly
    for answered in (*ask(doors, TEXTS), *ask(doors, TEXTS)):
        assert answered.reward is None
        assert answered.code == "backend_failure"
    assert counted(doors, "tureen_worker_restarts_total") > 3
    assert health(doors) == ILL
    assert "died" in httpx2.get(f"{doors.url}/readyz", timeout=60).json()["error"]["message"]
