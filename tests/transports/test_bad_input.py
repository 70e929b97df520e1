"""Whatever is sent, the answer is the right code of the table, at both doors.

The server goes on, and has counted it once.
"""

import json
import math
import socket
import tracemalloc
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from doors import OpenDoors, RawGrpc, http_refusal, open_doors
from engine_fakes import PATIENCE_S

from tureen.contracts import ScoreRequest
from tureen.errors import ERRORS, InvalidRequest
from tureen.transports.http_protocol import MAX_HEAD_BYTES
from tureen.transports.json_body import JsonBody
from tureen.v1 import reward_pb2 as pb

LONG = "word " * 2000  # 10 000 tokens of the stub, whose windows hold 4 096


def body(**changes: Any) -> bytes:
    """A request that is right but for `changes` to its only sample or to its options."""
    sample: dict[str, Any] = {"prompt": "What is 2+2?", "responses": ["4", "5, perhaps."]}
    request: dict[str, Any] = {"samples": [sample]}
    for name, value in changes.items():
        place = sample if name in pb.Sample.DESCRIPTOR.fields_by_name else request
        if value is None:
            place.pop(name)
        else:
            place[name] = value
    return json.dumps(request).encode()


def message(request: bytes) -> bytes:
    """The same request as protobuf."""
    fields = json.loads(request)
    for sample in fields["samples"]:
        for spans in sample.get("offsets", ()):
            assert spans is not None
        if "offsets" in sample:
            sample["offsets"] = [
                pb.TokenOffsets(spans=[pb.Span(start=start, end=end) for start, end in spans])
                for spans in sample["offsets"]
            ]
    enums = {"aggregation": "AGGREGATION_", "truncate": "TRUNCATE_"}
    for name, prefix in enums.items():
        if name in fields:
            fields[name] = (
                pb.DESCRIPTOR.enum_types_by_name[name.title()]
                .values_by_name[prefix + fields[name].upper()]
                .number
            )
    fields["samples"] = [pb.Sample(**sample) for sample in fields["samples"]]
    return pb.ScoreRequest(**fields).SerializeToString()


@dataclass
class Case:
    """http, grpc: what is sent; grpc None is the protobuf of http. says: words the message must hold."""

    code: str
    http: bytes
    grpc: bytes | None = None
    says: str = ""
    field: str | None = None


def same(code: str, says: str = "", field: str | None = None, /, **changes: Any) -> Case:
    return Case(code, body(**changes), message(body(**changes)), says, field)


def tagged(number: int, wire_type: int, payload: bytes) -> bytes:
    """One protobuf field, by hand. wire_type: 0 is varint, 2 is length-delimited."""
    return bytes([number << 3 | wire_type]) + payload


GOOD = message(body())
OFFSETS: dict[str, Any] = {"responses": ["0123456789"]}
INVALID_UTF8 = tagged(2, 2, b"\x06" + tagged(2, 2, b"\x01\xff") + tagged(5, 2, b"\x01a"))

CASES = {
    "empty body": Case("invalid_request", b"", b"", "empty"),
    "white space": Case("invalid_request", b" \n", b"", "empty"),
    "not JSON, not protobuf": Case("invalid_request", b"{'samples': []}", b"\xff\xff\xff"),
    "not UTF-8": Case("invalid_request", b'{"model": "\xff"}', INVALID_UTF8),
    "an array": Case("invalid_request", b"[]", b"\x0a"),
    "no samples": Case("invalid_request", b'{"samples": []}', b"", "samples is empty", "samples"),
    "unknown field": Case(
        "invalid_request",
        body(aggregatoin="mean"),
        GOOD + tagged(15, 2, b"\x01a"),
        "aggregation",
    ),
    "unknown field of a sample": Case(
        "invalid_request",
        b'{"samples": [{"promt": "a", "responses": ["b"]}]}',
        tagged(2, 2, b"\x06" + tagged(2, 2, b"\x01a") + tagged(15, 2, b"\x01a")),
        "prompt",
    ),
    "no responses": same("invalid_request", "response", responses=[]),
    "no responses at all": Case(
        "invalid_request",
        b'{"samples": [{"prompt": "a"}]}',
        message(b'{"samples": [{"prompt": "a"}]}'),
        "responses",
    ),
    "empty response": same("invalid_request", "blank", "responses[0]", responses=["", "   "]),
    "neither prompt nor messages": same("invalid_request", "prompt", prompt=None),
    "both prompt and messages": same(
        "invalid_request", "messages", messages=[{"role": "user", "content": "a"}]
    ),
    "10 MB response": same("payload_too_large", "max_body_bytes", responses=["a" * 10_000_000]),
    "5000 responses": same("invalid_request", "max_client_batch_size", responses=["a"] * 5000),
    "lone surrogate": Case(
        "invalid_request",
        b'{"samples": [{"prompt": "a", "responses": ["b", "\\ud800"]}]}',
        tagged(2, 2, b"\x0b" + tagged(2, 2, b"\x01a") + tagged(5, 2, b"\x06b\xed\xa0\x80bb")),
        field=None,
    ),
    "NUL": same("invalid_request", "NUL", responses=["a\0b"]),
    "wrong type": Case(
        "invalid_request",
        b'{"samples": [{"prompt": 7, "responses": ["b"]}]}',
        tagged(2, 2, b"\x05" + tagged(2, 0, b"\x07") + tagged(5, 2, b"\x01b")),
        "prompt",
    ),
    "number as text": Case(
        "invalid_request", body(penalty="0.5"), GOOD + tagged(6, 2, b"\x01a"), "penalty"
    ),
    "NaN weight": same("invalid_request", "finite", weights={"factuality": math.nan}),
    "infinite weight": same("invalid_request", "finite", weights={"factuality": math.inf}),
    "NaN penalty": same("invalid_request", "finite", "penalty", penalty=math.nan),
    "negative penalty": same("invalid_request", "penalty", "penalty", penalty=-0.1),
    "overlapping offsets": same("invalid_request", offsets=[[[0, 3], [2, 5]]], **OFFSETS),
    "descending offsets": same("invalid_request", offsets=[[[4, 6], [0, 2]]], **OFFSETS),
    "backwards offset": same("invalid_request", offsets=[[[5, 3]]], **OFFSETS),
    "offset past the end": same("invalid_request", offsets=[[[0, 11]]], **OFFSETS),
    "negative offset": same("invalid_request", offsets=[[[-1, 2]]], **OFFSETS),
    "offsets of another number of responses": same("invalid_request", offsets=[[[0, 1]]]),
    "unknown head": same("unknown_head", "factuality", heads=["factualty"]),
    "unknown head in weights": same("unknown_head", "factuality", weights={"factualty": 1.0}),
    "weight of a head left out": same(
        "invalid_request", heads=["factuality"], weights={"relevance": 1.0}
    ),
    "head named twice": same("invalid_request", heads=["factuality", "factuality"]),
    "unknown model": same("unknown_model", "stub", model="stab"),
    "too long, never": same("input_too_long", prompt=LONG, truncate="never"),
    "too long, context cannot help": same("input_too_long", prompt=LONG, truncate="context"),
    "too long, prompt cannot help": same("input_too_long", responses=[LONG], truncate="prompt"),
    "very long names": same("unknown_head", "factuality", heads=["é" * 50_000]),
    "very long weights": same("unknown_head", "factuality", weights={"😀" * 50_000: 1.0}),
    "very long model": same("unknown_model", "stub", model="m" * 50_000),
    "very long field": Case(
        "invalid_request", body(**{"z" * 50_000: 1}), GOOD + tagged(15, 2, b"\x01a"), "penalty"
    ),
    "integer beyond 64 bits": Case(
        "invalid_request",
        b'{"samples": [{"prompt": 1%s, "responses": ["b"]}]}' % (b"0" * 40),
        message(body(offsets=[[[0, 2**31 - 1]], [[0, 1]]])),
        "a string",
    ),
    "samples without responses": Case(
        "invalid_request",
        b'{"samples": [%s]}' % b",".join([b'{"responses": []}'] * 5000),
        tagged(2, 2, b"\x00") * 5000,
        "max_client_batch_size",
    ),
    "unknown truncate": Case(
        "invalid_request", body(truncate="contxt"), GOOD + tagged(10, 0, b"\x63"), "context"
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_http(name: str, http: httpx2.Client, doors: OpenDoors):
    case, before = CASES[name], doors.counts()
    refusal = http_refusal(http.post("/v1/score", content=case.http))
    assert refusal.code == case.code, refusal.message
    assert refusal.status == ERRORS[case.code].http_status
    assert case.says in refusal.message
    assert len(refusal.message) < 1000
    if case.field is not None:
        assert refusal.field is not None
        assert refusal.field.endswith(case.field)
    requests, errors = doors.counts().since(before)
    assert requests == {("http", "score", case.code): 1}
    assert errors == {case.code: 1}


@pytest.mark.parametrize("name", CASES)
def test_grpc(name: str, raw: RawGrpc, doors: OpenDoors):
    case, before = CASES[name], doors.counts()
    assert case.grpc is not None
    refusal = raw.refusal("Score", case.grpc)
    assert refusal.code == case.code, refusal.message
    assert getattr(refusal.status, "name", "") == ERRORS[case.code].grpc_status
    requests, errors = doors.counts().since(before)
    assert requests == {("grpc", "score", case.code): 1}
    assert errors == {case.code: 1}


def test_the_server_still_answers(http: httpx2.Client, raw: RawGrpc):
    assert http.post("/v1/score", content=body()).status_code == 200
    answer = pb.ScoreResponse.FromString(raw.method("Score")(GOOD))
    assert len(answer.results[0].scores) == 2
    assert http.get("/readyz").status_code == 200


@pytest.mark.parametrize("truncate", ["context", "prompt"])
def test_too_long_is_cut_where_that_is_asked_for(http: httpx2.Client, truncate: str):
    """The response is never cut: 9 spans of it stay."""
    changes: dict[str, Any] = {"context": [LONG * 8]} if truncate == "context" else {"prompt": LONG}
    answer = http.post("/v1/score", content=body(truncate=truncate, **changes)).json()
    for score in answer["results"][0]["scores"]:
        assert score["truncated_tokens"] > 0


def test_one_bad_sample_leaves_its_neighbours_alone(http: httpx2.Client, doors: OpenDoors):
    before = doors.counts()
    good = {"id": "good", "prompt": "a", "responses": ["b"]}
    bad = {"id": "bad", "prompt": "a", "responses": ["b", ""]}
    response = http.post("/v1/score", json={"samples": [bad, good]})
    assert response.status_code == 200
    first, second = response.json()["results"]
    assert (first["id"], first["scores"], first["error"]["code"]) == (
        "bad",
        None,
        "invalid_request",
    )
    assert second["error"] is None
    assert len(second["scores"]) == 1
    requests, errors = doors.counts().since(before)
    assert requests == {("http", "score", "ok"): 1}
    assert errors == {"invalid_request": 1}


def test_samples_that_all_fail_are_counted_each(http: httpx2.Client, doors: OpenDoors):
    before = doors.counts()
    bad = {"prompt": "a", "responses": [""]}
    response = http.post("/v1/score", json={"samples": [bad, bad, bad]})
    assert response.status_code == 422
    requests, errors = doors.counts().since(before)
    assert requests == {("http", "score", "invalid_request"): 1}
    assert errors == {"invalid_request": 3}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-request-timeout-ms", "soon"),
        ("x-request-timeout-ms", "-1"),
        ("x-request-timeout-ms", "nan"),
        ("x-request-timeout-ms", "1e300"),
        ("x-priority", "urgent"),
    ],
)
def test_a_wrong_header_is_named(http: httpx2.Client, name: str, value: str):
    refusal = http_refusal(http.post("/v1/score", content=body(), headers={name: value}))
    assert (refusal.status, refusal.code, refusal.field) == (422, "invalid_request", name)
    assert value in refusal.message


def test_a_wrong_priority_is_named_in_grpc(raw: RawGrpc):
    refusal = raw.refusal("Score", GOOD, metadata=[("x-priority", "urgent")])
    assert (refusal.code, refusal.field) == ("invalid_request", "x-priority")


def test_a_body_of_wrong_items_is_given_up_at_the_first():
    """Each of pydantic's complaints takes half a kilobyte; a body has room for millions."""
    parse = JsonBody(ScoreRequest).parse
    content = b'{"samples": [%s]}' % b",".join([b"1"] * 100_000)
    tracemalloc.start()
    with pytest.raises(InvalidRequest, match=r"samples\[0\] is 1"):
        parse(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 2**20


def test_a_head_without_end_is_refused(doors: OpenDoors):
    with socket.create_connection(("127.0.0.1", doors.http_port), PATIENCE_S) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: ")
        connection.sendall(b"a" * (2 * MAX_HEAD_BYTES))
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


def test_a_large_body_is_no_part_of_the_head(http: httpx2.Client):
    for _ in range(2):  # on one connection
        response = http.post("/v1/score", content=body() + b" " * (4 * MAX_HEAD_BYTES))
        assert response.status_code == 200


def test_a_chunked_body_is_counted_while_it_comes():
    """No Content-Length says how large it will be; the server stops at its limit."""
    sent = 0

    def pieces():
        nonlocal sent
        for _ in range(10_000):
            sent += 1024
            yield b" " * 1024

    with (
        open_doors(max_body_bytes=2048) as doors,
        httpx2.Client(base_url=doors.url, timeout=20) as client,
    ):
        response = client.post("/v1/score", content=pieces())
        assert http_refusal(response).code == "payload_too_large"
        assert client.post("/v1/score", content=body()).status_code == 200
        requests, errors = doors.counts().requests, doors.counts().errors
    assert requests[("http", "score", "payload_too_large")] == 1
    assert errors == {"payload_too_large": 1}


def test_rank_gives_the_error_of_its_sample(http: httpx2.Client, raw: RawGrpc, doors: OpenDoors):
    before = doors.counts()
    refusal = http_refusal(http.post("/v1/rank", json={"prompt": "a", "responses": ["b", ""]}))
    assert (refusal.status, refusal.code, refusal.field) == (
        422,
        "invalid_request",
        "responses[1]",
    )
    message_ = pb.RankRequest(prompt="a", responses=["b", ""]).SerializeToString()
    assert raw.refusal("Rank", message_).code == "invalid_request"
    requests, errors = doors.counts().since(before)
    assert requests == {
        ("http", "rank", "invalid_request"): 1,
        ("grpc", "rank", "invalid_request"): 1,
    }
    assert errors == {"invalid_request": 2}
