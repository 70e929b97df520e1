"""OpenRLHF, slime, verl and LLaMA-Factory against the server, as their own code behaves."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx2
import pytest
import trainer_clients as trainers
from doors import OpenDoors, open_doors
from engine_fakes import wait_until
from server_process import Server

from tureen.contracts import Calibration
from tureen.engine.loading import load_model

PROMPT = "<s>user: hi\nassistant: "
QUERY = PROMPT + "hello</s>"
CHATML = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
FULL: dict[str, Any] = {"max_concurrent_requests": 1, "max_client_batch_size": 1, "cache_bytes": 0}


@pytest.fixture(scope="module")
def hello(native) -> float:
    return native("hello", prompt="hi")


def test_openrlhf_reads_rewards_scores_and_logs(doors: OpenDoors, hello: float):
    got = trainers.Openrlhf(f"{doors.url}/get_reward").reward(QUERY, PROMPT)
    assert got["reward"] == hello
    assert got["score"] == hello  # the stub is not calibrated
    assert list(got["logs"]) == ["preference", "factuality", "relevance", "completeness"]


def test_openrlhf_asks_further_servers_with_empty_lists(doors: OpenDoors, hello: float):
    urls = f"{doors.url}/get_reward,{doors.url}/get_reward"
    assert trainers.Openrlhf(urls).reward(QUERY, PROMPT)["reward"] == hello


@pytest.mark.parametrize("label", ["", None, 7, ["a"], {"b": 1}])
def test_openrlhf_labels_are_of_any_kind(doors: OpenDoors, hello: float, label: object):
    client = trainers.Openrlhf(f"{doors.url}/get_reward")
    assert client.reward(QUERY, PROMPT, label)["reward"] == hello


def test_openrlhf_empty_lists_answer_empty_lists(http: httpx2.Client):
    response = http.post("/get_reward", json={"query": [], "prompts": [], "labels": []})
    assert response.status_code == 200
    assert response.json() == {"rewards": [], "scores": [], "extra_logs": {}}


def test_openrlhf_lists_have_the_length_of_the_query(http: httpx2.Client, hello: float):
    """Prompts and labels may be missing; other fields may be there."""
    answer = http.post("/get_reward", json={"query": [QUERY] * 3, "step": 1}).json()
    assert answer["rewards"] == answer["scores"] == [hello] * 3
    assert all(len(values) == 3 for values in answer["extra_logs"].values())


def test_openrlhf_scores_of_a_calibrated_model_are_probabilities():
    """σ(reward / temperature), in the range that dynamic filtering keeps."""
    stub = load_model("stub")
    heads = tuple(
        replace(head, calibration=Calibration(mean=0.5, std=2.0)) for head in stub.manifest.heads
    )
    model = replace(stub, manifest=replace(stub.manifest, heads=heads, temperature=0.5))
    with open_doors(model) as doors:
        answer = httpx2.post(f"{doors.url}/get_reward", json={"query": [QUERY, "x"]}).json()
        raw = httpx2.post(f"{doors.url}/get_reward?raw=1", json={"query": [QUERY]}).json()
        (reward, _), (score, other) = answer["rewards"], answer["scores"]
        assert score == pytest.approx(1 / (1 + 2.718281828459045 ** (-reward / 0.5)))
        assert 0 < other < 1
        # Σ w · v with Σ w = 1, where the reward is Σ w · (v − 0.5) / 2
        assert raw["rewards"][0] == pytest.approx(2 * reward + 0.5)


def test_openrlhf_prompt_that_is_too_long_is_cut_from_the_left(http: httpx2.Client):
    long = "<s>user: " + "word " * 2000 + "\nassistant: "
    body = {"query": [long + "hello</s>", QUERY], "prompts": [long, PROMPT]}
    response = http.post("/get_reward", json=body)
    assert response.status_code == 200
    assert response.headers["x-tureen-truncated"] == "1"
    refused = http.post("/get_reward?truncate=never", json=body)
    assert refused.status_code == 422
    assert "query[0]" in refused.json()["error"]["message"]


def test_openrlhf_one_bad_text_fails_the_request(http: httpx2.Client):
    response = http.post("/get_reward", json={"query": [QUERY, " "], "labels": ["", ""]})
    assert response.status_code == 422
    error = response.json()["error"]
    assert (error["code"], error["field"]) == ("invalid_request", "query[1]")
    assert "rewards" not in response.json()


def test_slime_the_body_is_the_reward(doors: OpenDoors, native, hello: float):
    client = trainers.Slime(f"{doors.url}/rm")
    assert client.reward(CHATML, "hello<|im_end|>") == hello
    assert client.reward("hi", "hello", "a label") == hello
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    assert client.reward(messages, "hello<|im_end|>\n") == native("hello", messages=messages)


def test_slime_a_dictionary_only_when_it_is_asked_for(doors: OpenDoors, hello: float):
    answer = trainers.Slime(f"{doors.url}/rm?format=dict").reward(CHATML, "hello<|im_end|>")
    assert answer["overall"] == hello
    assert set(answer) == {"overall", "preference", "factuality", "relevance", "completeness"}


def test_slime_a_body_of_distillation_is_refused_in_words(http: httpx2.Client):
    """`--rm-url` is shared with on-policy distillation, whose body is that of /generate."""
    response = http.post("/rm", json={"input_ids": [1, 2], "sampling_params": {}})
    assert response.status_code == 422
    assert "required" in response.json()["error"]["message"]


@pytest.mark.parametrize("flag", ["use_activation", "activation", "softmax"])
def test_verl_reads_the_last_number(doors: OpenDoors, hello: float, flag: str):
    client = trainers.Verl(doors.url)
    text = CHATML + "hello"  # its one begin token and every end token are removed
    assert client.vllm(text, flag) == client.sglang(text) == hello


def test_verl_a_refused_request_is_final(doors: OpenDoors):
    with pytest.raises(httpx2.HTTPStatusError):
        trainers.Verl(doors.url).vllm(" ")


def test_llamafactory_scores_in_order(doors: OpenDoors, native, hello: float):
    url = f"{doors.url}/v1/score/evaluation"
    messages = ["<s>" + CHATML + text + "<|im_end|>" for text in ("hello", "no")]
    assert trainers.llamafactory(url, messages) == [hello, native("no", prompt="hi")]
    assert trainers.llamafactory(url, []) == []


def test_llamafactory_an_error_has_no_scores(doors: OpenDoors):
    """What the client makes of it: training ends, rather than going on with a number."""
    with pytest.raises(KeyError):
        trainers.llamafactory(f"{doors.url}/v1/score/evaluation", ["a", " "])


@pytest.mark.parametrize("trainer", ["openrlhf", "slime", "llamafactory"])
def test_a_trainer_waits_for_a_server_that_is_full(trainer: str):
    """Its retries would be over before the server is free: the request is held instead."""
    ask = {
        "openrlhf": lambda url: trainers.Openrlhf(f"{url}/get_reward").reward(QUERY, PROMPT),
        "slime": lambda url: trainers.Slime(f"{url}/rm").reward("hi", "hello"),
        "llamafactory": lambda url: trainers.llamafactory(f"{url}/v1/score/evaluation", ["a"]),
    }[trainer]
    with open_doors(**FULL) as doors, ThreadPoolExecutor() as pool:
        doors.gate.hold()
        first = pool.submit(ask, doors.url)
        wait_until(lambda: doors.gate.rows == 1, "the first response on the device")
        others = [pool.submit(ask, doors.url) for _ in range(3)]
        wait_until(lambda: doors.scorer._permits.waiting == 3, "the others to stand in line")
        doors.gate.open()
        for future in (first, *others):
            assert future.result() is not None
        codes = {code for _, _, code in doors.counts().requests}
    assert codes == {"ok"}


def test_a_deadline_ends_the_wait_with_503(http: httpx2.Client):
    with open_doors(**FULL) as doors, ThreadPoolExecutor() as pool:
        doors.gate.hold()
        first = pool.submit(trainers.Slime(f"{doors.url}/rm").reward, "hi", "hello")
        wait_until(lambda: doors.gate.rows == 1, "the first response on the device")
        refused = httpx2.post(
            f"{doors.url}/rm",
            json={"prompt": "hi", "response": "ho"},
            headers={"X-Request-Timeout-Ms": "50"},
        )
        doors.gate.open()
        first.result()
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1


def test_verl_comes_back_to_a_server_that_was_full(hello: float):
    with open_doors(**FULL) as doors, ThreadPoolExecutor() as pool:
        doors.gate.hold()
        first = pool.submit(trainers.Verl(doors.url).sglang, "hold the device")
        wait_until(lambda: doors.gate.rows == 1, "the first response on the device")
        slept = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            doors.gate.open()
            first.result()

        assert trainers.Verl(doors.url, sleep).vllm(CHATML + "hello") == hello
        assert slept == [1]
        assert doors.counts().requests["http", "classify", "overloaded"] == 1


def test_a_trainer_waits_while_the_model_loads(hello: float):
    with open_doors() as doors, ThreadPoolExecutor() as pool:
        admission = doors.admission
        admission._closed = "the model is being loaded"
        doors.loop.call_soon_threadsafe(admission._settled.clear)
        asked = pool.submit(trainers.Openrlhf(f"{doors.url}/get_reward").reward, QUERY, PROMPT)
        wait_until(lambda: bool(admission._settled._waiters), "the request to wait")
        assert httpx2.post(f"{doors.url}/classify", json={"input": "a"}).status_code == 503
        doors.loop.call_soon_threadsafe(admission.open, doors.scorer, doors.soups)
        assert asked.result()["reward"] == hello


def test_rollouts_go_into_the_bulk_lane(doors: OpenDoors):
    """Unless the request says otherwise; a person is not behind a flood."""
    seen = []
    score = doors.scorer.score

    async def spy(request, **terms):
        seen.append(terms["priority"])
        return await score(request, **terms)

    doors.scorer.score = spy  # type: ignore[method-assign]
    try:
        body = {"prompt": "hi", "response": "hello"}
        httpx2.post(f"{doors.url}/rm", json=body)
        httpx2.post(f"{doors.url}/rm", json=body, headers={"x-priority": "interactive"})
        httpx2.post(f"{doors.url}/classify", json={"input": "a"})
    finally:
        doors.scorer.score = score  # type: ignore[method-assign]
    assert seen == ["bulk", "interactive", "interactive"]


def test_many_at_once_on_a_real_server(server: Server, hello: float):
    """Each with a connection of its own, as OpenRLHF opens them."""
    openrlhf = trainers.Openrlhf(f"{server.url}/get_reward")
    verl, slime = trainers.Verl(server.url), trainers.Slime(f"{server.url}/rm")
    with ThreadPoolExecutor(32) as pool:
        futures = [pool.submit(openrlhf.reward, QUERY, PROMPT) for _ in range(24)]
        others = [
            pool.submit(slime.reward, CHATML, "hello<|im_end|>"),
            pool.submit(verl.vllm, CHATML + "hello"),
            pool.submit(verl.sglang, CHATML + "hello"),
        ]
        assert {future.result()["reward"] for future in futures} == {hello}
        assert {future.result() for future in others} == {hello}
    url = f"{server.url}/v1/score/evaluation"
    assert trainers.llamafactory(url, [CHATML + "hello<|im_end|>"]) == [hello]
