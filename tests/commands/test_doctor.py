"""`tureen doctor` finds each illness in a pico model that was given it, and no other model ill."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pico
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from tureen.cli import main
from tureen.contracts import Granularity, Sample
from tureen.engine.loading import load_model
from tureen.engine.stub_backend import StubBackend
from tureen.model import sequence_classifier
from tureen.model.reward_model import RewardModel
from tureen.text import evidence, template
from tureen.text.batch import collate

Doctor = Callable[..., tuple[int, dict[str, tuple[str, str]]]]


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Exit status, and (verdict, what was found) by check."""

    def run(model: Path | str, *flags: str):
        status = main(["doctor", str(model), "--json", *flags])
        report = json.loads(capsys.readouterr().out)
        assert status == (0 if report["ok"] else 1)
        return status, {one["name"]: (one["status"], one["found"]) for one in report["checks"]}

    return run


def bert_evidence(directory: Path) -> Path:
    """Its heads read how the response stands in its context."""
    return pico.bert_reward(directory, text=replace(pico.PAIR, template="evidence"))


def bert_evidence_2(directory: Path) -> Path:
    """Its heads also read what is counted about each unit."""
    return pico.bert_reward(directory, text=replace(pico.PAIR, template="evidence-2"))


@pytest.mark.parametrize(
    "make",
    [
        pico.bert_reward,
        pico.llama_reward,
        bert_evidence,
        bert_evidence_2,
        pico.bert_classifier,
        pico.llama_classifier,
    ],
    ids=lambda make: make.__name__,
)
def test_healthy_models_are_healthy(doctor: Doctor, tmp_path: Path, make):
    status, checks = doctor(make(tmp_path / "model"))
    assert status == 0
    assert checks["as transformers computes"][0] == "ok"
    assert checks["padding has no effect"][0] == "ok"
    assert checks["tokenizer fits the model"][0] == "ok"
    assert checks["pad ≠ eos"][0] == "ok"


def test_a_token_that_is_lost_on_the_way_to_the_model(doctor: Doctor, tmp_path: Path, monkeypatch):
    """Token types are not passed on: everything still runs, and gives other values."""
    model = pico.bert_classifier(tmp_path / "model")
    monkeypatch.setattr(sequence_classifier, "takes_token_types", lambda *_: False)
    status, checks = doctor(model)
    assert status == 1
    assert failed(checks) == ["as transformers computes"]


def failed(checks: dict[str, tuple[str, str]]) -> list[str]:
    return [name for name, (verdict, _) in checks.items() if verdict == "FAIL"]


def test_evidence_that_is_not_what_it_is_defined_as(doctor: Doctor, tmp_path: Path, monkeypatch):
    """Every token of a response with context is said to be in its best sentence."""
    model = bert_evidence(tmp_path / "model")
    monkeypatch.setattr(evidence.Context, "most_alike", lambda context, own, r: np.ones_like(own))
    status, checks = doctor(model)
    assert status == 1
    assert failed(checks) == ["tokens and evidence"]


def test_evidence_that_the_heads_read_otherwise(doctor: Doctor, tmp_path: Path, monkeypatch):
    model = bert_evidence(tmp_path / "model")
    honest = RewardModel._evidence
    monkeypatch.setattr(RewardModel, "_evidence", lambda *given: 2 * honest(*given))
    status, checks = doctor(model)
    assert status == 1
    assert failed(checks) == ["as transformers computes"]


def rewrite_template(model: Path, change: Callable[[str], str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = change(str(tokenizer.chat_template))
    tokenizer.save_pretrained(model)


def test_a_template_that_writes_bos_in_every_turn(doctor: Doctor, tmp_path: Path):
    model = pico.llama_classifier(tmp_path / "model")
    rewrite_template(model, lambda text: text + "{{ bos_token }}")
    status, checks = doctor(model)
    assert (status, checks["one BOS"][0]) == (1, "FAIL")


def test_rows_that_end_in_a_token_that_is_also_the_padding(doctor: Doctor, tmp_path: Path):
    """Found harmless where no row ends in it."""
    model = pico.llama_classifier(tmp_path / "model", pad_is_eos=True)
    status, checks = doctor(model)
    assert (status, checks["pad ≠ eos"][0]) == (0, "note")
    assert "harmless" in checks["pad ≠ eos"][1]
    rewrite_template(model, lambda text: text + "{{ eos_token }}")
    status, checks = doctor(model)
    assert (status, checks["pad ≠ eos"][0]) == (0, "note")
    assert "rows end in it" in checks["pad ≠ eos"][1]


def test_a_backend_that_reads_its_padding(doctor: Doctor, monkeypatch):
    honest = StubBackend.forward

    def reading(self, batch):
        return honest(self, batch) + 1e-3 * batch.input_ids.sum()

    monkeypatch.setattr(StubBackend, "forward", reading)
    status, checks = doctor("stub")
    assert (status, checks["padding has no effect"][0]) == (1, "FAIL")


def test_a_tokenizer_that_pads_on_the_left_is_told_of(doctor: Doctor, tmp_path: Path):
    model = pico.llama_classifier(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    tokenizer.save_pretrained(model)
    status, checks = doctor(model)
    assert (status, checks["padding has no effect"][0]) == (0, "note")
    assert "left" in checks["padding has no effect"][1]


def test_text_that_is_not_what_the_template_makes(doctor: Doctor, tmp_path: Path, monkeypatch):
    model = pico.llama_classifier(tmp_path / "model")
    honest = template.render_chat

    def shouting(sample, tokenizer):
        louder = [turn.upper() for turn in sample.responses]
        return honest(type(sample)(prompt=sample.prompt, responses=tuple(louder)), tokenizer)

    monkeypatch.setattr(template, "render_chat", shouting)
    status, checks = doctor(model)
    assert (status, checks["tokens of the chat template"][0]) == (1, "FAIL")


def test_a_tokenizer_with_more_tokens_than_the_model_has(doctor: Doctor, tmp_path: Path):
    model = pico.bert_classifier(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_tokens(["zyzzyva"])
    tokenizer.save_pretrained(model)
    status, checks = doctor(model)
    assert (status, checks["tokenizer fits the model"][0]) == (1, "FAIL")


def test_ids_that_the_model_has_otherwise_are_told_of(doctor: Doctor, tmp_path: Path):
    model = pico.llama_classifier(tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"bos_token_id": 3}))
    status, checks = doctor(model)
    assert (status, checks["tokenizer fits the model"][0]) == (0, "note")
    assert "in config.json 3" in checks["tokenizer fits the model"][1]


def test_values_that_half_precision_ruins(doctor: Doctor, tmp_path: Path):
    """The head is a thousand times as steep, and its bias takes nearly all of that away again."""
    model = pico.bert_classifier(tmp_path / "model")
    assert doctor(model, "--dtype", "bfloat16")[0] == 0
    weights = load_file(model / "model.safetensors")
    weights["classifier.weight"] *= 1000
    weights["classifier.bias"] *= 0
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    served = load_model(model, backend="torch", device="cpu")
    [encoded] = served.encoder.encode(
        Sample(prompt="What is 2+2?", responses=("4",)), {Granularity.RESPONSE}
    )
    value = served.backend.forward(collate(encoded.windows, served.pad_id)).ravel()[0]
    weights["classifier.bias"] = torch.tensor([-np.float32(value)])
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    status, checks = doctor(model, "--dtype", "bfloat16")
    assert (status, checks["dtype"][0]) == (1, "FAIL")
    assert doctor(model)[1]["dtype"] == ("ok", "float32")
