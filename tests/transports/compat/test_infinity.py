"""Infinity's clients, whose base URL ends in /infinity."""

import math
from typing import Any

import httpx2
import pytest
from doors import open_doors

QUERY, DOCUMENTS = "hi", ["hello", "ho", "hm"]


@pytest.fixture(scope="module")
def rewards(native) -> list[float]:
    return [native(document, prompt=QUERY) for document in DOCUMENTS]


def ok(http: httpx2.Client, path: str, **body: Any) -> Any:
    response = http.post(f"/infinity{path}", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_rerank(http: httpx2.Client, rewards: list[float]):
    best = sorted(range(3), key=lambda index: -rewards[index])
    answer = ok(http, "/rerank", model="m", query=QUERY, documents=DOCUMENTS)
    assert answer["results"] == [
        {"relevance_score": rewards[index], "index": index, "document": None} for index in best
    ]
    assert answer["object"] == "rerank"
    assert answer["model"] == "m"
    assert answer["id"].startswith("infinity-")
    assert isinstance(answer["created"], int)
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0
    shown = ok(http, "/rerank", query=QUERY, documents=DOCUMENTS, return_documents=True, top_n=2)
    assert [one["document"] for one in shown["results"]] == [DOCUMENTS[i] for i in best[:2]]


@pytest.mark.parametrize("raw", [True, False, None])
def test_raw_scores_means_what_it_says_on_both_routes(http, native, rewards, raw):
    def expected(reward: float) -> float:
        return 1 / (1 + math.exp(-reward)) if raw is False else reward

    ranked = ok(http, "/rerank", query=QUERY, documents=DOCUMENTS, raw_scores=raw)["results"]
    found = {one["index"]: one["relevance_score"] for one in ranked}
    assert [found[index] for index in range(3)] == pytest.approx([*map(expected, rewards)])
    classes = ok(http, "/classify", input=["user: hi\nassistant: hello"], raw_scores=raw)
    [[only]] = classes["data"]
    assert only["label"] == "overall"
    assert only["score"] == pytest.approx(expected(native("hello", prompt="hi")))
    assert classes["object"] == "classify"


def test_all_heads_stand_before_the_reward(http: httpx2.Client):
    [labels] = ok(http, "/classify?heads=all", input=["a"])["data"]
    assert [one["label"] for one in labels][-1] == "overall"
    assert len(labels) == 5


def test_nothing_is_stripped(http: httpx2.Client):
    texts = ["user: hi\nassistant: hello", "user: hi\nassistant:  hello "]
    first, second = ok(http, "/classify", input=texts)["data"]
    assert first != second


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/rerank", {"query": "a", "documents": []}),
        ("/rerank", {"query": "a", "documents": ["b"], "top_n": -1}),
        ("/rerank", {"query": "a", "documents": ["b"], "normalize": True}),
        ("/classify", {"input": []}),
        ("/classify", {"input": "a"}),
    ],
)
def test_what_is_refused_has_infinitys_shape(http: httpx2.Client, path: str, body: dict):
    response = http.post(f"/infinity{path}", json=body)
    assert response.status_code == 422
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_models_and_health(http: httpx2.Client):
    [model] = http.get("/infinity/models").json()["data"]
    assert (model["id"], model["object"]) == ("stub", "model")
    assert {"rerank", "classify"} <= set(model["capabilities"])
    assert http.get("/infinity/health").status_code == 200


def test_a_strict_server_serves_no_other_name():
    """400 is Infinity's own status for it; 404 that of all others."""
    with (
        open_doors(strict_model=True) as doors,
        httpx2.Client(base_url=doors.url, timeout=20) as client,
    ):
        statuses = {
            "/infinity/rerank": ({"query": "a", "documents": ["b"]}, 400),
            "/classify": ({"input": "a"}, 404),
            "/v1/score/evaluation": ({"messages": ["a"]}, 404),
        }
        for path, (body, status) in statuses.items():
            refused = client.post(path, json={**body, "model": "other"})
            assert refused.status_code == status
            assert "stub" in refused.text
            assert client.post(path, json={**body, "model": "stub"}).status_code == 200
            assert client.post(path, json=body).status_code == 200
        assert client.get("/v2/models/other/ready").status_code == 404


def test_another_name_is_counted(http: httpx2.Client, doors):
    def counted() -> float:
        labels = {"route": "infinity_rerank"}
        registry = doors.admission.metrics.registry
        return registry.get_sample_value("tureen_other_model_names_total", labels) or 0.0

    before = counted()
    for name in ("/checkpoints/step-7", "stub", None):
        ok(http, "/rerank", query="a", documents=["b"], model=name)
    assert counted() == before + 1


DEFAULTS = {
    "vllm": [
        ("/classify", {"input": "a"}),
        ("/pooling", {"input": "a"}),
        ("/score", {"text_1": "a", "text_2": "b"}),
        ("/rerank", {"query": "a", "documents": ["b"]}),
    ],
    "tei": [
        ("/predict", {"inputs": "a"}),
        ("/rerank", {"query": "a", "texts": ["b"]}),
        ("/", {"inputs": "a"}),
    ],
    "infinity": [
        ("/infinity/rerank", {"query": "a", "documents": ["b"]}),
        ("/infinity/classify", {"input": ["a"]}),
    ],
    "": [
        ("/classify", {"text": "a"}),  # of SGLang
        ("/v1/embeddings", {"input": "a"}),
        ("/get_reward", {"query": ["a"]}),
    ],
}
FLAGS = {
    "vllm": ("use_activation", False),
    "tei": ("raw_scores", True),
    "infinity": ("raw_scores", True),
}


@pytest.mark.parametrize("system", ["vllm", "tei", "infinity"])
def test_upstreams_own_default_where_the_site_asks_for_it(system: str):
    """And a flag in the request is obeyed all the same."""
    with (
        open_doors(upstream_activation=(system,)) as doors,
        httpx2.Client(base_url=doors.url, timeout=20) as client,
    ):
        for name, requests in DEFAULTS.items():
            for path, body in requests:
                said = client.post(path, json=body).headers["x-tureen-activation"]
                assert said == ("sigmoid" if name == system else "none"), path
                if name:
                    flag, raw = FLAGS[name]
                    told = client.post(path, json={**body, flag: raw})
                    assert told.headers["x-tureen-activation"] == "none", path
