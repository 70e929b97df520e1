"""Whatever is sent to a drop-in route, the answer is the right error in the shape of its system.

Never a number; the server goes on, and has counted the request once.
"""

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from doors import OpenDoors, open_doors
from engine_fakes import wait_until

from tureen.errors import ERRORS

LONG = "word " * 2000  # 10 000 tokens of the stub, whose windows hold 4 096


@dataclass(frozen=True)
class Route:
    """body: of one response. many: of so many; None where the route takes one. invalid: the status
    of `invalid_request`; failed: of a failing device."""

    label: str
    body: Callable[[Any], dict[str, Any]]
    many: Callable[[int], dict[str, Any]] | None
    invalid: int = 400
    failed: int = 500


def chat(text: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "hi"}, {"role": "assistant", "content": text}]


def tensor(texts: list[Any]) -> list[dict[str, Any]]:
    return [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}]


ROUTES = {
    "/get_reward": Route(
        "get_reward", lambda text: {"query": [text]}, lambda n: {"query": ["a"] * n}, 422
    ),
    "/rm": Route("rm", lambda text: {"prompt": "hi", "response": text}, None, 422),
    "/classify": Route("classify", lambda text: {"input": [text]}, lambda n: {"input": ["a"] * n}),
    "/classify of SGLang": Route(
        "classify", lambda text: {"text": [text]}, lambda n: {"text": ["a"] * n}
    ),
    "/v1/embeddings": Route(
        "embeddings", lambda text: {"input": [text]}, lambda n: {"input": ["a"] * n}
    ),
    "/pooling": Route("pooling", lambda text: {"messages": chat(text)}, None),
    "/score": Route(
        "pairs",
        lambda text: {"text_1": "hi", "text_2": [text]},
        lambda n: {"text_1": "hi", "text_2": ["a"] * n},
    ),
    "/v1/score": Route(
        "score",
        lambda text: {"queries": ["hi"], "items": [text]},
        lambda n: {"queries": ["hi"] * n, "items": ["a"] * n},
    ),
    "/rerank": Route(
        "rerank",
        lambda text: {"query": "hi", "documents": [text]},
        lambda n: {"query": "hi", "documents": ["a"] * n},
    ),
    "/rerank of TEI": Route(
        "rerank",
        lambda text: {"query": "hi", "texts": [text]},
        lambda n: {"query": "hi", "texts": ["a"] * n},
        422,
        424,
    ),
    "/v1/rerank": Route("rerank", lambda text: {"query": "hi", "documents": [text]}, None),
    "/v2/rerank": Route(
        "rerank", lambda text: {"query": "hi", "documents": [{"text": text}]}, None
    ),
    "/predict": Route(
        "predict",
        lambda text: {"inputs": [["hi", text]]},
        lambda n: {"inputs": [["a"]] * n},
        422,
        424,
    ),
    "/": Route(
        "invocations",
        lambda text: {"query": "hi", "texts": [text]},
        lambda n: {"query": "hi", "texts": ["a"] * n},
        422,
        424,
    ),
    "/invocations": Route(
        "invocations",
        lambda text: {"inputs": [["hi", text]]},
        lambda n: {"inputs": [["a"]] * n},
        422,
        424,
    ),
    "/infinity/rerank": Route(
        "infinity_rerank",
        lambda text: {"query": "hi", "documents": [text]},
        lambda n: {"query": "hi", "documents": ["a"] * n},
        422,
    ),
    "/infinity/classify": Route(
        "infinity_classify", lambda text: {"input": [text]}, lambda n: {"input": ["a"] * n}, 422
    ),
    "/v2/models/rm/infer": Route(
        "infer", lambda text: {"inputs": tensor([text])}, lambda n: {"inputs": tensor(["a"] * n)}
    ),
    "/v1/score/evaluation": Route(
        "evaluation", lambda text: {"messages": [text]}, lambda n: {"messages": ["a"] * n}, 422
    ),
    "/v1/chat/completions": Route("chat", lambda text: {"messages": chat(text)}, None),
}


RANK = Route(
    "rank",
    lambda text: {"prompt": "hi", "responses": [text]},
    lambda n: {"prompt": "hi", "responses": ["a"] * n},
    422,
)
SCORING = {**ROUTES, "/v1/rank": RANK}  # Tureen's own beside those of others


def path_of(name: str) -> str:
    return name.split(" ")[0]


def documented(name: str) -> str:
    return path_of(name).replace("/models/rm/", "/models/{model}/")


CASES: dict[str, tuple[str, Callable[[Route], bytes | None]]] = {
    "empty body": ("invalid_request", lambda route: b""),
    "not JSON": ("invalid_request", lambda route: b"{'query': []}"),
    "not UTF-8": ("invalid_request", lambda route: b'{"query": "\xff"}'),
    "an array": ("invalid_request", lambda route: b"[]"),
    "a number": ("invalid_request", lambda route: b"1"),
    "null": ("invalid_request", lambda route: b"null"),
    "no field": ("invalid_request", lambda route: b"{}"),
    "nested without end": ("invalid_request", lambda route: b'{"input": ' + b"[" * 100_000),
    "wrong type": ("invalid_request", lambda route: json.dumps(route.body({"a": 1})).encode()),
    "a number for a text": ("invalid_request", lambda route: json.dumps(route.body(1.5)).encode()),
    "null for a text": ("invalid_request", lambda route: json.dumps(route.body(None)).encode()),
    "blank": ("invalid_request", lambda route: json.dumps(route.body(" \n")).encode()),
    "empty": ("invalid_request", lambda route: json.dumps(route.body("")).encode()),
    "NUL": ("invalid_request", lambda route: json.dumps(route.body("a\0b")).encode()),
    "lone surrogate": ("invalid_request", lambda route: json.dumps(route.body("\ud800")).encode()),
    "too long": ("input_too_long", lambda route: json.dumps(route.body(LONG)).encode()),
    "10 MB": ("payload_too_large", lambda route: json.dumps(route.body("a" * 10**7)).encode()),
    "5000 responses": (
        "invalid_request",
        lambda route: None if route.many is None else json.dumps(route.many(5000)).encode(),
    ),
}


def test_no_scoring_route_is_left_out(http: httpx2.Client):
    """/v1/score has a table of its own for Tureen's body, through both doors (test_bad_input.py)."""
    paths = http.get("/openapi.json").json()["paths"]
    taking = {path for path, one in paths.items() if "requestBody" in one.get("post", {})}
    assert {documented(name) for name in SCORING} == {
        path.replace("/versions/{version}", "") for path in taking
    } - {"/v1/soups"}


@pytest.mark.parametrize("name", SCORING)
def test_bad_input(name: str, http: httpx2.Client, doors: OpenDoors):
    """The whole table against one route (metrics are read once, for reading them takes longest)."""
    route, before, expected = SCORING[name], doors.counts(), Counter[str]()
    for case, (code, body_of) in CASES.items():
        body = body_of(route)
        if body is None:
            continue
        expected[code] += 1
        response = http.post(path_of(name), content=body)
        allowed = {route.invalid, 400, 422} if ERRORS[code].http_status == 422 else {413}
        assert response.status_code in allowed, (case, response.text)
        assert response.json()["error"], case
        assert len(response.content) < 2000, case
        assert set(response.json()) <= {"error", "error_type"}, case
    requests, errors = doors.counts().since(before)
    assert requests == {("http", route.label, code): count for code, count in expected.items()}
    assert errors == expected
    good = http.post(path_of(name), json=route.body("hello"))
    assert good.status_code == 200, good.text


@pytest.mark.parametrize("name", ROUTES)
def test_a_blank_text_has_the_status_of_the_system(name: str, http: httpx2.Client):
    response = http.post(path_of(name), json=ROUTES[name].body(" "))
    assert response.status_code == ROUTES[name].invalid


@pytest.mark.parametrize("name", ROUTES)
def test_a_query_parameter_that_is_unknown_is_refused(name: str, http: httpx2.Client):
    body = ROUTES[name].body("hello")
    for query in ("fromat=dict", "heads=some"):
        response = http.post(f"{path_of(name)}?{query}", json=body)
        assert response.status_code == ROUTES[name].invalid
        assert query.split("=")[0] in response.text


@pytest.fixture(scope="module")
def locked():
    with open_doors(api_key=("secret",)) as doors:
        yield doors


@pytest.mark.parametrize("name", [*SCORING, "/info"])
def test_every_route_asks_for_the_key(name: str, locked: OpenDoors):
    with httpx2.Client(base_url=locked.url, timeout=20) as client:

        def send(headers: dict[str, str]) -> httpx2.Response:
            if name == "/info":
                return client.get(name, headers=headers)
            return client.post(path_of(name), json=SCORING[name].body("hello"), headers=headers)

        assert send({}).status_code == 401
        assert send({"Authorization": "Bearer wrong"}).headers["www-authenticate"] == "Bearer"
        assert send({"Authorization": "Bearer secret"}).status_code == 200


def test_overload_is_503_with_a_time_to_wait():
    """Trainers' routes hold the request for as long as its deadline lets them."""
    settings: dict[str, Any] = {
        "max_concurrent_requests": 1,
        "max_client_batch_size": 1,
        "cache_bytes": 0,
    }
    headers = {"X-Request-Timeout-Ms": "40"}
    with (
        open_doors(**settings) as doors,
        httpx2.Client(base_url=doors.url, timeout=20) as client,
        ThreadPoolExecutor() as pool,
    ):
        doors.gate.hold()
        taken = pool.submit(httpx2.post, f"{doors.url}/classify", json={"input": "a"}, timeout=60)
        wait_until(lambda: doors.in_flight() == 1, "the permit to be taken")
        for name, route in SCORING.items():
            response = client.post(path_of(name), json=route.body("b"), headers=headers)
            assert response.status_code == 503, (name, response.text)
            assert int(response.headers["retry-after"]) >= 1
            if route.failed == 424:  # text-embeddings-inference
                assert response.json()["error_type"] == "Overloaded"
        doors.gate.open()
        assert taken.result().status_code == 200


@pytest.fixture(scope="module")
def broken():
    """A server whose device gives values that are not finite."""
    with open_doors(cache_bytes=0) as doors:
        honest = doors.gate.script
        doors.gate.script = lambda batch: honest(batch) * float("nan")
        yield doors


@pytest.mark.parametrize("name", SCORING)
def test_a_failing_device_is_an_error_and_never_a_number(name: str, broken: OpenDoors):
    with httpx2.Client(base_url=broken.url, timeout=20) as client:
        response = client.post(path_of(name), json=SCORING[name].body("hello"))
    assert response.status_code == SCORING[name].failed
    assert set(response.json()) <= {"error", "error_type"}


def test_examples_of_the_documentation_run(http: httpx2.Client):
    paths = http.get("/openapi.json").json()["paths"]
    examples = {
        path: operations["post"]["requestBody"]["content"]["application/json"]["example"]
        for path, operations in paths.items()
        if "post" in operations and "requestBody" in operations["post"]
    }
    assert {documented(name) for name in ROUTES} <= set(examples)
    for name in ROUTES:
        response = http.post(path_of(name), json=examples[documented(name)])
        assert response.status_code == 200, (name, response.text)
