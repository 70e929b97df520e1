"""What is particular to HTTP: routes, documentation that needs no internet, and what /openapi.json promises."""

import gzip
import re

import httpx2
import pytest
from doors import OpenDoors, http_refusal

SCORE = {"samples": [{"id": "q", "prompt": "What?", "responses": ["That. And this."]}]}


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", None])
def test_json_is_read_whatever_it_is_called(http: httpx2.Client, content_type: str | None):
    headers = {} if content_type is None else {"Content-Type": content_type}
    body = b'{"samples": [{"prompt": "a", "responses": ["b"]}]}'
    assert http.post("/v1/score", content=body, headers=headers).status_code == 200


def test_a_compressed_body_is_refused_in_words(http: httpx2.Client):
    body = gzip.compress(b'{"samples": [{"prompt": "a", "responses": ["b"]}]}')
    refusal = http_refusal(
        http.post("/v1/score", content=body, headers={"Content-Encoding": "gzip"})
    )
    assert (refusal.status, refusal.field) == (422, "content-encoding")
    assert "'gzip'" in refusal.message
    assert http.post("/v1/score", json=SCORE).status_code == 200


def test_the_answer_has_the_fields_of_the_contract(http: httpx2.Client):
    answer = http.post("/v1/score", json=SCORE).json()
    assert list(answer) == ["model", "fingerprint", "soup", "results", "timings"]
    assert list(answer["results"][0]) == ["id", "error", "scores"]
    [score] = answer["results"][0]["scores"]
    names = "reward heads segments uncertainty members token_rewards tokens truncated_tokens"
    assert list(score) == names.split()
    assert score["uncertainty"] is None
    assert answer["timings"]["total_ns"] > 0


def test_rank_puts_the_best_first(http: httpx2.Client):
    """σ(Δ/T) against the rewards it came with, by hand."""
    answer = http.post("/v1/rank", json={"prompt": "a", "responses": ["b", "c", "d"]}).json()
    rewards = answer["rewards"]
    assert answer["ranking"] == sorted(range(3), key=lambda index: -rewards[index])
    wins = answer["win_probability"]
    temperature = http.get("/v1/models/stub").json()["temperature"]
    for i in range(3):
        assert wins[i][i] == 0.5
        for j in range(3):
            expected = 1 / (1 + 2.718281828459045 ** ((rewards[j] - rewards[i]) / temperature))
            assert wins[i][j] == pytest.approx(expected, abs=1e-9)


def test_models(http: httpx2.Client):
    listed = http.get("/v1/models").json()
    assert listed["default_model"] == "stub"
    [model] = listed["models"]
    assert http.get("/v1/models/stub").json() == model
    assert model["limits"]["max_body_bytes"] == 4 * 2**20


@pytest.mark.parametrize("model_id", ["nobody", "org/name", "a/b/c", "%2e%2e/x"])
def test_a_model_id_may_hold_slashes(http: httpx2.Client, model_id: str):
    refusal = http_refusal(http.get(f"/v1/models/{model_id}"))
    assert (refusal.status, refusal.code) == (404, "unknown_model")


def test_an_unknown_route_offers_the_nearest(http: httpx2.Client, doors: OpenDoors):
    before = doors.counts()
    refusal = http_refusal(http.post("/v1/scores", json=SCORE))
    assert (refusal.status, refusal.code) == (404, "invalid_request")
    assert "did you mean '/v1/score'" in refusal.message
    requests, errors = doors.counts().since(before)
    assert requests == {("http", "other", "invalid_request"): 1}
    assert errors == {"invalid_request": 1}


def test_a_wrong_method_names_the_right_one(http: httpx2.Client):
    refusal = http_refusal(http.get("/v1/score"))
    assert (refusal.status, refusal.code) == (405, "invalid_request")
    assert "POST" in refusal.message
    assert refusal.headers["allow"] == "POST"


def test_the_documentation_works_offline(http: httpx2.Client):
    """Every address the page loads is this server's, and answers."""
    page = http.get("/docs")
    assert not re.findall(r"(?:src|href|url)\s*[=:]\s*[\"'](?:https?:)?//", page.text)
    loaded = ["/openapi.json", *re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)]
    assert len(loaded) >= 4
    for address in loaded:
        assert http.get(address).status_code == 200, address
    style = http.get("/static-offline-docs/swagger-ui.css").text
    assert not re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style)


def test_openapi_describes_bodies_answers_and_errors(http: httpx2.Client):
    document = http.get("/openapi.json").json()
    assert set(document["paths"]) == {
        *("/v1/score", "/v1/rank", "/v1/models", "/v1/models/{model_id}"),
        *("/healthz", "/readyz", "/metrics"),
        *("/get_reward", "/rm", "/classify", "/v1/embeddings", "/pooling", "/score", "/predict"),
        *("/rerank", "/v1/rerank", "/v2/rerank", "/info", "/v1/score/evaluation"),
        *("/v1/chat/completions", "/", "/invocations"),
        *("/infinity/rerank", "/infinity/classify", "/infinity/models"),
        *("/v2", "/v2/models/{model}", "/v2/models/{model}/ready", "/v2/models/{model}/infer"),
        *(f"/v2/models/{{model}}/versions/{{version}}{what}" for what in ("", "/ready", "/infer")),
        *("/v1/soups", "/v1/soups/rollback"),
        *(f"/v1/soups/{{fingerprint}}/{what}" for what in ("activate", "shadow", "rollback")),
    }
    made = document["paths"]["/v1/soups"]["post"]["responses"]
    assert set(made) == set("202 401 403 404 409 413 422 500 503 504".split())
    score = document["paths"]["/v1/score"]["post"]
    body = score["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/ScoreRequest"}
    assert set(score["responses"]) == set("200 401 404 413 422 429 500 503 504".split())
    assert "overloaded" in score["responses"]["503"]["description"]
    schemas = document["components"]["schemas"]
    assert schemas["ScoreRequest"]["additionalProperties"] is False
    assert set(schemas["Score"]["properties"]) >= {"reward", "heads", "segments", "token_rewards"}
    assert schemas["Aggregation"]["enum"] == ["mean", "worst_case", "uncertainty_weighted"]
    references = set(re.findall(r"#/components/schemas/(\w+)", http.get("/openapi.json").text))
    assert references <= set(schemas)


@pytest.mark.parametrize("path", ["/v1/score", "/v1/rank"])
def test_the_example_of_the_documentation_runs(http: httpx2.Client, path: str):
    operation = http.get("/openapi.json").json()["paths"][path]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert http.post(path, json=example).status_code == 200


def test_metrics_are_for_prometheus(http: httpx2.Client):
    http.post("/v1/score", json=SCORE)
    answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    for name in (
        "requests_total",
        "request_seconds_bucket",
        "batch_tokens_bucket",
        "reward_bucket",
    ):
        assert f"tureen_{name}" in answer.text


def test_priority_and_deadline_are_taken(http: httpx2.Client):
    headers = {"X-Priority": "bulk", "X-Request-Timeout-Ms": "10000"}
    assert http.post("/v1/score", json=SCORE, headers=headers).status_code == 200


def test_unicode_comes_back_as_it_was_sent(http: httpx2.Client):
    """Spans count code points: a family emoji is five of them, two joiners included."""
    response = "👩‍👩‍👧 said that it is fine. Ça va bien."
    sample = {"id": "é", "prompt": "?", "responses": [response]}
    answer = http.post("/v1/score", json={"samples": [sample]}).json()
    assert answer["results"][0]["id"] == "é"
    segments = answer["results"][0]["scores"][0]["segments"]
    sentences = [s for s in segments if s["head"] == "factuality"]
    assert [response[s["start"] : s["end"]] for s in sentences] == [
        "👩‍👩‍👧 said that it is fine. ",
        "Ça va bien.",
    ]
