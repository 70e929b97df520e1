"""The open inference protocol: what KServe's clients send, and NeMo-Aligner's tensors, as JSON."""

from pathlib import Path
from typing import Any

import httpx2
import pico
import pytest
from doors import open_doors

from tureen.engine.loading import load_model

TEXT = "user: hi\nassistant: hello"


def tensor(name: str, data: list[Any], *shape: int, datatype: str = "BYTES") -> dict[str, Any]:
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": data}


def infer(http: httpx2.Client, *inputs: dict[str, Any], **fields: Any) -> httpx2.Response:
    return http.post("/v2/models/rm/infer", json={"inputs": list(inputs), **fields})


@pytest.fixture(scope="module")
def hello(native) -> float:
    return native("hello", prompt="hi")


def test_a_reward_for_each_text(http: httpx2.Client, hello: float):
    answer = infer(http, tensor("text", [TEXT, "x"], 2), id="42").json()
    [output] = answer.pop("outputs")
    assert answer == {"model_name": "rm", "model_version": "1", "id": "42"}
    assert (output["name"], output["shape"], output["datatype"]) == ("score", [2], "FP32")
    assert output["data"][0] == hello
    assert len(output["data"]) == 2


def test_no_id_none_back(http: httpx2.Client):
    assert "id" not in infer(http, tensor("text", [TEXT], 1)).json()


def test_nothing_in_nothing_out(http: httpx2.Client):
    [output] = infer(http, tensor("text", [], 0)).json()["outputs"]
    assert (output["shape"], output["data"]) == ([0], [])


@pytest.mark.parametrize(
    ("data", "shape"), [([TEXT, "x"], (2,)), ([TEXT, "x"], (2, 1)), ([[TEXT], ["x"]], (2, 1))]
)
def test_nemos_sentences(http: httpx2.Client, hello: float, data: list, shape: tuple[int, ...]):
    [output] = infer(http, tensor("sentences", data, *shape)).json()["outputs"]
    assert (output["name"], output["shape"]) == ("rewards", [2, 1])
    assert output["data"][0] == hello


def test_nemos_tokens_are_ids_of_the_model(tmp_path: Path):
    """Padded to a rectangle; the lengths say where each row ends."""
    model = load_model(str(pico.llama_classifier(tmp_path / "rm")), backend="torch", device="cpu")
    with open_doors(model) as doors, httpx2.Client(base_url=doors.url, timeout=20) as client:
        rows = [[5, 6, 7], [8, 9]]
        classified = client.post("/classify", json={"input": rows}).json()["data"]
        lengths = tensor("sequence_lengths", [[3], [2]], 2, 1, datatype="INT64")
        ids = tensor("tokens", [[5, 6, 7], [8, 9, 0]], 2, 3, datatype="INT64")
        [output] = infer(client, ids, lengths).json()["outputs"]
        assert output["shape"] == [2, 1]
        assert output["data"] == pytest.approx([one["probs"][0] for one in classified], abs=1e-6)
        for wrong in ([[4], [2]], [[3]], [[-1], [2]], [["3"], [2]]):
            refused = infer(client, ids, tensor("sequence_lengths", wrong, 2, 1, datatype="INT64"))
            assert refused.status_code == 400
        assert infer(client, ids).status_code == 400
        torn = tensor("tokens", [[5, 6, 7, 8], [9, 0]], 2, 3, datatype="INT64")
        assert infer(client, torn, lengths).status_code == 400


@pytest.mark.parametrize(
    ("inputs", "fields"),
    [
        ([], {}),
        ([tensor("txt", ["a"], 1)], {}),
        ([tensor("text", ["a"], 2)], {}),
        ([tensor("text", ["a"], -1)], {}),
        ([tensor("text", ["a"], *[2**63] * 1000)], {}),  # their product would take for ever
        ([tensor("text", ["a"], 10**4000)], {}),
        ([tensor("text", ["a", "b"], 1, 2)], {}),
        ([tensor("sentences", [["a", "b"], []], 2, 1)], {}),  # as many, and in other rows
        ([tensor("sentences", [["a", "b"]], 2, 1)], {}),
        ([tensor("sentences", [["a"], "b"], 2, 1)], {}),
        ([tensor("text", [1], 1, datatype="INT64")], {}),
        ([tensor("text", ["a"], 1, datatype="FP32")], {}),
        ([tensor("text", ["a"], 1), tensor("sentences", ["a"], 1)], {}),
        ([tensor("text", ["a"], 1), tensor("text", ["a"], 1)], {}),
        ([tensor("text", ["a"], 1)], {"outputs": [{"name": "rewards"}]}),
        ([tensor("text", ["a"], 1)], {"parameters": {"binary_data_output": True}}),
        ([{**tensor("text", ["a"], 1), "parameters": {"binary_data_size": 3}}], {}),
    ],
)
def test_what_is_refused(http: httpx2.Client, inputs: list, fields: dict):
    refused = infer(http, *inputs, **fields)
    assert refused.status_code == 400, refused.text
    assert list(refused.json()) == ["error"]


def test_tensors_in_binary_are_refused_in_words(http: httpx2.Client):
    """As tritonclient sends them unless it is told binary_data=False: the tensor behind the JSON."""
    head = b'{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}'
    refused = http.post(
        "/v2/models/rm/infer",
        content=head + b"\x01\0\0\0a",
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    assert refused.status_code == 400
    assert "binary_data=False" in refused.json()["error"]


@pytest.mark.parametrize("path", ["rm/config", "org/rm/stats", "rm/versions/1/config"])
def test_extensions_are_not_taken_for_names(http: httpx2.Client, path: str):
    refused = http.get(f"/v2/models/{path}")
    assert (refused.status_code, list(refused.json())) == (404, ["error"])


def test_what_is_told_of_server_and_model(http: httpx2.Client):
    assert http.get("/v2").json()["name"] == "tureen"
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/rm/ready"):
        assert http.get(path).status_code == 200
    described = http.get("/v2/models/org/rm/versions/1").json()
    assert described["name"] == "org/rm"
    assert described["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    for path in ("/v2/models/rm/versions/2", "/v2/models/rm/versions/2/ready"):
        assert http.get(path).status_code == 404
    body = {"inputs": [tensor("text", [TEXT], 1)]}
    assert http.post("/v2/models/rm/versions/1/infer", json=body).status_code == 200
    assert http.post("/v2/models/rm/versions/2/infer", json=body).status_code == 404


def test_a_name_may_hold_slashes_and_line_ends(http: httpx2.Client):
    body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
    answer = http.post("/v2/models/org/a%0Ab/infer", json=body)
    assert (answer.status_code, answer.json()["model_name"]) == (200, "org/a\nb")
