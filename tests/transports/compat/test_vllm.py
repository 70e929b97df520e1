"""vLLM's and SGLang's pooling routes, as clients of reward models call them."""

import base64
import math
import struct
from typing import Any

import httpx2
import pytest
from server_process import Server

MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
TEXT = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nhello<|im_end|>\n"
USAGE = {"prompt_tokens", "total_tokens", "completion_tokens", "prompt_tokens_details"}


@pytest.fixture(scope="module")
def hello(native) -> float:
    return native("hello", prompt="hi")


def ok(http: httpx2.Client, path: str, **body: Any) -> Any:
    response = http.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def refused(http: httpx2.Client, path: str, **body: Any) -> str:
    """The message of a 400 in OpenAI's shape."""
    response = http.post(path, json=body)
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (response.status_code, error["code"]) == (400, 400), error["message"]
    return error["message"]


def test_classify_has_the_fields_of_vllm(http: httpx2.Client, hello: float, native):
    answer = ok(http, "/classify", model="any/name", input=[TEXT, "x"])
    assert answer["id"].startswith("classify-")
    assert (answer["object"], answer["model"]) == ("list", "any/name")
    assert set(answer["usage"]) == USAGE
    first, second = answer["data"]
    assert first == {"index": 0, "label": "overall", "probs": [hello], "num_classes": 1}
    assert second["index"] == 1
    assert ok(http, "/classify", input=[])["data"] == []


def test_classify_messages(http: httpx2.Client, native):
    plain = [{**message, "name": None, "prefix": False, "weight": 0} for message in MESSAGES]
    for messages in (MESSAGES, plain):
        answer = ok(http, "/classify", messages=messages, add_generation_prompt=False)
        assert answer["data"][0]["probs"] == [native("hello", messages=MESSAGES[:1])]


@pytest.mark.parametrize("flag", ["use_activation", "activation", "softmax"])
def test_an_activation_only_when_it_is_asked_for_and_then_it_is_said(
    http: httpx2.Client, hello: float, flag: str
):
    response = http.post("/classify", json={"input": TEXT, flag: True})
    assert response.headers["x-tureen-activation"] == "sigmoid"
    [number] = response.json()["data"][0]["probs"]
    assert number == pytest.approx(1 / (1 + math.exp(-hello)), abs=1e-12)
    for value in (False, None):
        response = http.post("/classify", json={"input": TEXT, flag: value})
        assert response.headers["x-tureen-activation"] == "none"
        assert response.json()["data"][0]["probs"] == [hello]


def test_all_heads_stand_before_the_reward(http: httpx2.Client, hello: float):
    [item] = ok(http, "/classify?heads=all", input=TEXT)["data"]
    assert item["num_classes"] == len(item["probs"]) == 5
    weights = [0.4, 0.3, 0.2, 0.1]
    assert item["probs"][-1] == hello
    weighed = sum(w * v for w, v in zip(weights, item["probs"], strict=False))
    assert weighed == pytest.approx(hello)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"input": TEXT, "activation": True, "softmax": False}, "contradict"),
        ({"input": TEXT, "normalize": True}, "would change the score"),
        ({"input": TEXT, "temperature": 0.5}, "would change the score"),
        ({"input": TEXT, "truncate_prompt_tokens": 5}, "nothing is cut to that"),
        ({"input": TEXT, "truncate_prompt_tokens": 0}, "at least 1"),
        ({"input": [1, 2]}, "send text"),
        ({"input": [[1], "a"]}, "array of token ids"),
        ({"input": TEXT, "messages": MESSAGES}, "both"),
        ({}, "neither"),
        ({"messages": MESSAGES[:1]}, "the assistant's"),
        ({"messages": MESSAGES, "add_generation_prompt": True}, "add_generation_prompt"),
        ({"messages": MESSAGES, "continue_final_message": True}, "continue_final_message"),
        ({"messages": MESSAGES, "chat_template": "{{ 7 }}"}, "chat_template"),
        ({"messages": [*MESSAGES[:1], {**MESSAGES[1], "tool_calls": [1]}]}, "tool_calls"),
        ({"text": "a", "use_activation": True}, "always raw"),
        ({"text": "a", "add_special_tokens": True}, "add_special_tokens"),
        ({"text": "a", "truncate_prompt_tokens": -1}, "truncate_prompt_tokens"),
    ],
)
def test_classify_refuses_what_would_change_the_number(http, body, says):
    assert says in refused(http, "/classify", **body)


def test_fields_that_do_not_change_the_number_are_ignored(http: httpx2.Client, hello: float):
    extra = {"user": "me", "priority": 3, "request_id": "r", "normalize": False, "dimensions": None}
    assert ok(http, "/classify", input=TEXT, **extra)["data"][0]["probs"] == [hello]


def test_too_long_is_400_unless_truncation_is_asked_for(http: httpx2.Client):
    long = TEXT.replace("hi", "hi " * 3000)
    assert "max_input_tokens" in refused(http, "/classify", input=long)
    response = http.post("/classify", json={"input": long, "truncate_prompt_tokens": -1})
    assert response.status_code == 200
    assert response.headers["x-tureen-truncated"] == "1"


def test_what_fits_the_length_that_is_asked_for_is_scored(http: httpx2.Client, hello: float):
    """Clients send 512 by habit; only what is longer would have to be cut to another text."""
    body = {"input": TEXT, "truncate_prompt_tokens": 512}
    assert ok(http, "/classify", **body)["data"][0]["probs"] == [hello]
    pair: dict[str, Any] = {"text_1": "hi", "text_2": ["hello", "hello " * 600]}
    assert "text_2[1] is" in refused(http, "/score", **pair, truncate_prompt_tokens=512)


def test_sglang_classify(http: httpx2.Client, hello: float):
    """`response[i]["embedding"][0]`; a single string is answered by a single object."""
    answer = ok(http, "/classify", model="m", text=[TEXT, "x"])
    assert answer[0]["embedding"] == [hello]
    assert answer[0]["meta_info"]["prompt_tokens"] > 0
    assert len(answer) == 2
    assert ok(http, "/classify", text=TEXT)["embedding"] == [hello]
    assert ok(http, "/classify", text=[]) == []


def test_a_body_of_two_systems_is_422(http: httpx2.Client):
    assert http.post("/classify", json={"text": "a", "input": "b"}).status_code == 422


def test_embeddings_as_numbers_and_as_base64(http: httpx2.Client, hello: float):
    answer = ok(http, "/v1/embeddings", model="m", input=TEXT)
    assert answer["data"] == [{"object": "embedding", "index": 0, "embedding": [hello]}]
    packed = ok(http, "/v1/embeddings", input=TEXT, encoding_format="base64")
    (number,) = struct.unpack("<f", base64.b64decode(packed["data"][0]["embedding"]))
    assert number == pytest.approx(hello, rel=1e-6)
    assert "encoding_format" in refused(http, "/v1/embeddings", input=TEXT, encoding_format="int8")
    assert "dimensions" in refused(http, "/v1/embeddings", input=TEXT, dimensions=256)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/pooling"])
def test_base64_is_what_the_client_will_read(http: httpx2.Client, path: str):
    """Of float16, or of the other byte order, the same letters are another number."""
    plain = {"input": TEXT, "encoding_format": "base64"}
    packed = ok(http, path, **plain, embed_dtype="float32", endianness="little")["data"]
    assert packed == ok(http, path, **plain)["data"]
    for wrong in ({"embed_dtype": "float16"}, {"endianness": "big"}, {"encoding_format": "bytes"}):
        assert next(iter(wrong)) in refused(http, path, **{**plain, **wrong})


def test_pooling(http: httpx2.Client, hello: float):
    answer = ok(http, "/pooling", input=TEXT, task="classify")
    assert answer["data"] == [{"index": 0, "object": "pooling", "data": [hello]}]
    for task in ("token_classify", "embed", "token_embed", "plugin"):
        assert "task" in refused(http, "/pooling", input=TEXT, task=task)


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
@pytest.mark.parametrize(
    ("first", "second"),
    [("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2")],
)
def test_score_takes_pairs_under_each_of_their_names(http, native, path, first, second):
    expected = [native("hello", prompt="hi"), native("ho", prompt="hi")]
    one_to_many = ok(http, path, model="m", **{first: "hi", second: ["hello", "ho"]})
    assert [item["score"] for item in one_to_many["data"]] == expected
    assert [item["index"] for item in one_to_many["data"]] == [0, 1]
    assert set(one_to_many["usage"]) == USAGE
    each = ok(http, path, **{first: ["hi", "a"], second: ["hello", "b"]})
    assert [item["score"] for item in each["data"]] == [expected[0], native("b", prompt="a")]
    one = ok(http, path, **{first: "hi", second: "hello"})
    assert [item["score"] for item in one["data"]] == expected[:1]
    assert ok(http, path, **{first: "hi", second: []})["data"] == []
    assert "match them" in refused(http, path, **{first: ["a", "b"], second: "c"})


def test_sglangs_generative_score_is_not_offered(http: httpx2.Client):
    body = {"query": "a", "items": ["b"], "label_token_ids": [1]}
    assert http.post("/v1/score", json=body).status_code == 422


def test_the_native_score_is_still_native(http: httpx2.Client):
    response = http.post("/v1/score", json={"samples": [], "text_1": "a"})
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "invalid_request"
    assert int(http.post("/v1/score", json={"samples": []}).status_code) == 422


def test_on_a_real_server(server: Server, hello: float):
    with httpx2.Client(base_url=server.url, timeout=20) as client:
        assert ok(client, "/classify", input=TEXT)["data"][0]["probs"] == [hello]
        assert ok(client, "/classify", text=TEXT)["embedding"] == [hello]
        assert ok(client, "/pooling", input=TEXT)["data"][0]["data"] == [hello]
        assert ok(client, "/v1/score", text_1="hi", text_2="hello")["data"][0]["score"] == hello
