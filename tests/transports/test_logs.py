"""What stands in the log, and what does not."""

import json
import logging
from collections.abc import Iterator
from datetime import datetime

import grpc
import httpx2
import pytest
from doors import SERVICE, OpenDoors, open_doors
from server_process import serving

from tureen.contracts import Sample, ScoreRequest
from tureen.engine.caller import CALLER, Caller
from tureen.transports.logs import JsonFormatter, TextFormatter, log_request
from tureen.wire import to_proto

SECRET = "the patient's name"
BODY = {"samples": [{"prompt": SECRET, "responses": ["4"]}]}
MESSAGE = to_proto(
    ScoreRequest(samples=(Sample(prompt=SECRET, responses=("4",)),))
).SerializeToString()


@pytest.fixture
def record(caplog: pytest.LogCaptureFixture) -> Iterator[logging.LogRecord]:
    token = CALLER.set(Caller("run-7/step-3", client="trainer"))
    with caplog.at_level(logging.INFO):
        log_request("http", "score", "ok", 0.25, [Sample(prompt="a\nb", responses=("c",))])
    yield caplog.records[0]
    CALLER.reset(token)


def test_a_line_of_json(record):
    line = json.loads(JsonFormatter().format(record))
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    [sample] = line.pop("samples")
    assert (sample["prompt"], sample["responses"]) == ("a\nb", ["c"])
    assert line == {
        "level": "info",
        "logger": "tureen",
        "message": "request",
        "request_id": "run-7/step-3",
        "client": "trainer",
        "door": "http",
        "route": "score",
        "code": "ok",
        "seconds": 0.25,
    }


def test_text_cannot_forge_a_line(record):
    line = TextFormatter().format(record)
    assert "\n" not in line
    assert 'INFO tureen: request request_id="run-7/step-3"' in line
    assert 'code="ok" seconds=0.25' in line


def test_an_exception_stays_in_its_line():
    try:
        raise ValueError("planted")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("tureen", logging.ERROR, "f.py", 1, "failed", None, info)
    line = json.loads(JsonFormatter().format(record))
    assert line["exception"].endswith("ValueError: planted")


class RequestIds:
    """The id that comes back with an answer, by door."""

    @staticmethod
    def http(doors: OpenDoors, given: str | None, path: str = "/v1/score") -> str:
        headers = {} if given is None else {"x-request-id": given}
        response = httpx2.post(f"{doors.url}{path}", json=BODY, headers=headers)
        return response.headers["x-request-id"]

    @staticmethod
    def grpc(doors: OpenDoors, given: str | None, message: bytes = MESSAGE) -> str:
        metadata = () if given is None else (("x-request-id", given),)
        with grpc.insecure_channel(doors.target) as channel:
            method = channel.unary_unary(SERVICE + "Score", None, None)
            call = method.future(message, metadata=metadata)
            call.exception(timeout=20)
            return str(dict(call.trailing_metadata())["x-request-id"])


DOORS = pytest.mark.parametrize("request_id", [RequestIds.http, RequestIds.grpc])


@pytest.fixture(scope="module")
def doors():
    with open_doors() as opened:
        yield opened


@DOORS
def test_the_callers_own_request_id_comes_back(doors, request_id):
    assert request_id(doors, "run-7/step-3") == "run-7/step-3"


@DOORS
def test_a_request_id_is_made_where_there_is_none(doors, request_id):
    first, second = request_id(doors, None), request_id(doors, None)
    assert len(first) == len(second) == 32
    assert first != second


@DOORS
@pytest.mark.parametrize("given", ["with a space", "x" * 129, ""])
def test_a_request_id_that_would_spoil_a_log_is_replaced(doors, request_id, given):
    assert len(request_id(doors, given)) == 32


def test_errors_have_a_request_id_too(doors):
    assert RequestIds.http(doors, "a", "/v1/nothing") == "a"
    assert RequestIds.grpc(doors, "b", b"\xff\xff") == "b"


@pytest.mark.parametrize(
    ("settings", "lines", "text"),
    [({}, 0, False), ({"log_requests": True}, 1, False), ({"log_text": True}, 1, True)],
    ids=["neither", "requests", "text"],
)
def test_requests_and_their_text_are_logged_when_that_is_asked_for(caplog, settings, lines, text):
    with caplog.at_level(logging.DEBUG), open_doors(**settings) as doors:
        httpx2.post(f"{doors.url}/v1/score", json=BODY).raise_for_status()
        RequestIds.grpc(doors, None)
    requests = [one for one in caplog.records if one.message == "request"]
    assert len(requests) == 2 * lines  # one a door
    logged = "".join(JsonFormatter().format(one) for one in caplog.records)
    assert (SECRET in logged) is text


def test_the_log_of_a_real_server_is_json_in_every_line_and_holds_no_text():
    with serving("stub", "--log-format", "json", "--log-requests") as server:
        headers = {"x-request-id": "run-7"}
        httpx2.post(f"{server.url}/v1/score", json=BODY, headers=headers).raise_for_status()
        too_long = {"samples": [{"prompt": SECRET, "responses": [SECRET * 1000]}]}
        assert httpx2.post(f"{server.url}/v1/score", json=too_long).status_code == 422
        assert server.stop() == 0
    lines = [json.loads(line) for line in server.log]
    requests = [line for line in lines if line["message"] == "request"]
    assert [(one["door"], one["route"], one["code"]) for one in requests] == [
        ("http", "score", "ok"),
        ("http", "score", "input_too_long"),
    ]
    assert requests[0]["request_id"] == "run-7"
    assert SECRET not in json.dumps(lines)
