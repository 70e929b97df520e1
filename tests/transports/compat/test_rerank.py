"""Reranking and prediction for clients of vLLM, Cohere, Jina and text-embeddings-inference; NIM."""

import math
from typing import Any

import httpx2
import pytest
from doors import OpenDoors, open_doors
from server_process import Server

QUERY, DOCUMENTS = "hi", ["hello", "ho", "hm"]


@pytest.fixture(scope="module")
def rewards(native) -> list[float]:
    return [native(document, prompt=QUERY) for document in DOCUMENTS]


@pytest.fixture(scope="module")
def best(rewards: list[float]) -> list[int]:
    return sorted(range(len(rewards)), key=lambda index: -rewards[index])


def ok(http: httpx2.Client, path: str, **body: Any) -> Any:
    response = http.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_one_reply_serves_vllm_cohere_and_jina(http, path, rewards, best):
    answer = ok(http, path, model="m", query=QUERY, documents=DOCUMENTS)
    assert [result["index"] for result in answer["results"]] == best
    assert [result["relevance_score"] for result in answer["results"]] == [rewards[i] for i in best]
    assert answer["results"][0]["document"]["text"] == DOCUMENTS[best[0]]  # vLLM, Jina
    assert answer["id"]
    assert answer["model"] == "m"
    assert answer["usage"]["total_tokens"] > 0  # Jina
    version = "1" if path == "/v1/rerank" else "2"
    assert answer["meta"]["api_version"]["version"] == version  # Cohere
    assert answer["meta"]["billed_units"] == {"search_units": 1}


@pytest.mark.parametrize(("top_n", "count"), [(0, 3), (None, 3), (1, 1), (2, 2), (99, 3)])
def test_top_n(http, best, top_n, count):
    answer = ok(http, "/v2/rerank", query=QUERY, documents=DOCUMENTS, top_n=top_n)
    assert [result["index"] for result in answer["results"]] == best[:count]


def test_documents_may_be_objects_and_need_not_come_back(http, best):
    documents = [{"text": text, "id": "x"} for text in DOCUMENTS]
    answer = ok(http, "/v1/rerank", query=QUERY, documents=documents, return_documents=False)
    assert [result["index"] for result in answer["results"]] == best
    assert {result["document"] for result in answer["results"]} == {None}


def test_no_documents_no_results(http):
    assert ok(http, "/rerank", query=QUERY, documents=[])["results"] == []


def test_equals_stay_in_the_order_of_the_request_but_not_for_tei(http):
    answer = ok(http, "/rerank", query=QUERY, documents=["a", "a", "a"])
    assert [result["index"] for result in answer["results"]] == [0, 1, 2]
    ranks = ok(http, "/rerank", query=QUERY, texts=["a", "a", "a"])
    assert [rank["index"] for rank in ranks] == [2, 1, 0]


def test_sglangs_list_by_option(http, rewards, best):
    answer = ok(http, "/v1/rerank?format=list", query=QUERY, documents=DOCUMENTS)
    assert [(one["index"], one["score"]) for one in answer] == [(i, rewards[i]) for i in best]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"query": "a", "documents": ["b"], "texts": ["c"]}, 422),
        ({"query": "a"}, 422),
        ({"query": "a", "documents": ["b"], "top_n": -1}, 400),
        ({"query": "a", "documents": ["b"], "rank_fields": ["title"]}, 400),
        ({"query": "a", "documents": ["b"], "raw_scores": False}, 400),
        ({"query": "a", "documents": [{"image": "x"}]}, 400),
        ({"query": "a", "documents": ["b", " "]}, 400),
        ({"query": "a", "documents": ["b" * 90], "max_tokens_per_doc": 50}, 400),
        ({"query": "a", "documents": ["b" * 90], "max_tokens_per_doc": 4096}, 200),
    ],
)
def test_what_is_refused(http, body, status):
    assert http.post("/rerank", json=body).status_code == status


def test_tei_rerank(http, rewards, best):
    ranks = ok(http, "/rerank", query=QUERY, texts=DOCUMENTS)
    assert ranks == [{"index": i, "score": rewards[i]} for i in best]
    response = http.post(
        "/rerank",
        json={"query": QUERY, "texts": DOCUMENTS, "raw_scores": False, "return_text": True},
    )
    assert response.headers["x-tureen-activation"] == "sigmoid"
    for rank, index in zip(response.json(), best, strict=True):
        assert rank["text"] == DOCUMENTS[index]
        assert rank["score"] == pytest.approx(1 / (1 + math.exp(-rewards[index])), abs=1e-12)


@pytest.mark.parametrize("path", ["/", "/invocations"])
def test_tei_is_invoked_without_a_route(http, native, rewards, best, path):
    """SageMaker knows one path; the body says whether it ranks or predicts."""
    ranks = ok(http, path, query=QUERY, texts=DOCUMENTS)
    assert ranks == [{"index": i, "score": rewards[i]} for i in best]
    assert ok(http, path, inputs=["hi", "hello"]) == [
        {"score": native("hello", prompt="hi"), "label": "overall"}
    ]
    for body in ({}, {"inputs": "a", "texts": ["b"]}, {"query": "a"}, {"texts": ["a"]}):
        refused = http.post(path, json=body)
        assert (refused.status_code, refused.json()["error_type"]) == (422, "Validation")


def test_tei_errors_have_its_shape(http):
    empty = http.post("/rerank", json={"query": "a", "texts": []})
    assert (empty.status_code, empty.json()["error_type"]) == (400, "Empty")
    wrong = http.post("/predict", json={"inputs": ["a", "b", "c"]})
    assert (wrong.status_code, wrong.json()["error_type"]) == (422, "Validation")
    assert set(wrong.json()) == {"error", "error_type"}
    null = http.post("/predict", json={"inputs": "a", "raw_scores": None})
    assert null.status_code == 422


@pytest.mark.parametrize("field", [{"texts": "a"}, {"raw_scores": None}, {"return_text": 1}])
def test_a_body_of_tei_that_cannot_be_read_is_refused_in_its_shape(http, field):
    refused = http.post("/rerank", json={"query": "a", "texts": ["b"], **field})
    assert (refused.status_code, refused.json()["error_type"]) == (422, "Validation")
    assert http.post("/rerank", json={"query": "a", "texts": ["b"]}).status_code == 200
    other = http.post("/rerank", json={"query": "a", "documents": "b"})
    assert (other.status_code, other.json()["error"]["param"]) == (400, "documents")


def test_tei_says_nothing_to_strangers():
    with open_doors(api_key=("secret",)) as doors:
        refused = httpx2.post(f"{doors.url}/predict", json={"inputs": "a"})
    assert (refused.status_code, refused.content) == (401, b"")


def test_a_flat_array_of_two_is_one_pair(http, native):
    """TEI's trap: ["a", "b"] is a pair, [["a"], ["b"]] a batch."""
    pair = native("b", prompt="a")
    assert ok(http, "/predict", inputs=["a", "b"]) == [{"score": pair, "label": "overall"}]
    [single] = ok(http, "/predict", inputs="b")
    assert ok(http, "/predict", inputs=["b"]) == [single]
    assert ok(http, "/predict", inputs=[["b"], ["a", "b"]]) == [
        [single],
        [{"score": pair, "label": "overall"}],
    ]


def test_predict_sorts_all_heads(http, native):
    [row] = ok(http, "/predict?heads=all", inputs=[["a", "b"]])
    scores = {one["label"]: one["score"] for one in row}
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert scores["overall"] == native("b", prompt="a")
    assert len(scores) == 5


@pytest.mark.parametrize("direction", ["left", "Left", "right", "Right"])
def test_what_is_too_long_is_cut_from_the_left_alone(http, direction):
    body = {"inputs": ["a " * 3000, "b"], "truncate": True, "truncation_direction": direction}
    response = http.post("/predict", json=body)
    assert response.status_code == (200 if direction.lower() == "left" else 422)


def test_tei_timings_are_headers(http):
    headers = http.post("/predict", json={"inputs": ["a", "b"]}).headers
    for name in ("compute", "total", "tokenization", "queue", "inference"):
        assert headers[f"x-{name}-time"].isdecimal()
    assert headers["x-compute-characters"] == "2"
    assert int(headers["x-compute-tokens"]) == 5  # [CLS] a [SEP] b [SEP]


def test_tei_info(http):
    info = http.get("/info").json()
    assert info["model_id"] == "stub"
    assert info["model_type"] == {
        "reranker": {"id2label": {"0": "overall"}, "label2id": {"overall": 0}}
    }
    assert info["max_client_batch_size"] == 1024
    assert info["embeddings"] is False
    assert info["temperature"] == 1.0
    assert info["heads"][0]["calibration"] == {"mean": 0.0, "std": 1.0}


@pytest.mark.parametrize("path", ["/health", "/ping", "/models"])
def test_names_others_have_for_our_routes(http, path):
    assert http.get(path).status_code == 200


def test_nim_says_the_same_numbers_twice(http, native):
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    answer = ok(http, "/v1/chat/completions", model="m", messages=messages, stream=False)
    [choice] = answer["choices"]
    said = dict(part.split(":") for part in choice["message"]["content"].split(","))
    assert list(said) == ["preference", "factuality", "relevance", "completeness", "overall"]
    numbers = {one["token"]: one["logprob"] for one in choice["logprobs"]["content"]}
    assert {name: float(number) for name, number in said.items()} == numbers
    assert numbers["overall"] == native("hello", messages=messages[:1])


@pytest.mark.parametrize(
    "extra", [{"stream": True}, {"temperature": 0}, {"max_tokens": 1}, {"n": 1}, {"logprobs": True}]
)
def test_nim_refuses_what_belongs_to_sampling(http, extra):
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    response = http.post("/v1/chat/completions", json={"messages": messages, **extra})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == next(iter(extra))


def test_on_a_real_server(server: Server, rewards: list[float], best: list[int]):
    with httpx2.Client(base_url=server.url, timeout=20) as client:
        for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
            results = ok(client, path, query=QUERY, documents=DOCUMENTS)["results"]
            assert [result["relevance_score"] for result in results] == [rewards[i] for i in best]
        assert ok(client, "/rerank", query=QUERY, texts=DOCUMENTS)[0]["index"] == best[0]
        assert ok(client, "/predict", inputs=[QUERY, "hello"])[0]["score"] == rewards[0]
        assert client.get("/info").json()["model_id"] == "stub"
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        answer = ok(client, "/v1/chat/completions", messages=messages)
        assert "overall:" in answer["choices"][0]["message"]["content"]


def test_a_request_is_counted_once(http, doors: OpenDoors):
    before = doors.counts()
    http.post("/rerank", json={"query": QUERY, "documents": ["a", " "]})
    http.post("/predict", json={"inputs": [["a", " "], ["a", " "], ["a", "b"]]})
    ok(http, "/v2/rerank", query=QUERY, documents=DOCUMENTS)
    requests, errors = doors.counts().since(before)
    assert requests == {
        ("http", "rerank", "invalid_request"): 1,
        ("http", "predict", "invalid_request"): 1,
        ("http", "rerank", "ok"): 1,
    }
    assert errors == {"invalid_request": 3}  # one sample of the first, two of the second
