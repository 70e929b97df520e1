"""Redistribution through the whole engine: what it runs, what it answers, what it refuses."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pico
import pico_tokenizers
import pytest
import torch
from engine_fakes import FakeBackend
from transformers import BertForSequenceClassification

from tureen.contracts import (
    Calibration,
    Granularity,
    Redistribution,
    Sample,
    Score,
    ScoreOptions,
    ScoreRequest,
)
from tureen.engine.ensemble import judge
from tureen.engine.loading import load_model
from tureen.engine.plan import make_plan
from tureen.engine.scorer import Scorer
from tureen.engine.served import ServedModel
from tureen.engine.stub_backend import stub_model
from tureen.errors import BackendFailure, from_info
from tureen.model.manifest import HeadSpec, Ingredient, Manifest, ModelError
from tureen.text.batch import Batch
from tureen.text.encoding import TextEncoder, Unit
from tureen.text.template import TextSpec

RESPONSE, SENTENCE = Granularity.RESPONSE, Granularity.SENTENCE
ABLATION, ATTENTION = Redistribution.ABLATION, Redistribution.ATTENTION


def scored(model: ServedModel, *responses: str, **options) -> list[Score]:
    async def score():
        scorer = Scorer([model])
        await scorer.start()
        assert scorer.ready() == (True, "ready")
        sample = Sample(prompt="What is it?", responses=responses)
        response = await scorer.score(ScoreRequest(samples=(sample,), **options))
        await scorer.stop()
        return response

    (result,) = asyncio.run(score()).results
    if result.error is not None:
        raise from_info(result.error)
    return list(result.scores or ())


def shares(score: Score, head: str = "reward") -> list[float]:
    return [segment.reward for segment in score.segments or () if segment.head == head]


class TestJudge:
    """One head of the response, weight ½, calibration (1, 2), beside a head of sentences."""

    heads = (
        HeadSpec(
            name="preference",
            granularity=RESPONSE,
            weight=0.5,
            calibration=Calibration(mean=1.0, std=2.0),
        ),
        HeadSpec(name="factuality", granularity=SENTENCE, weight=2.0),
    )
    units = (Unit(RESPONSE, 0, 10), Unit(SENTENCE, 0, 4), Unit(SENTENCE, 4, 10))

    def values(self, preference: Sequence[float], factuality: Sequence[float]) -> np.ndarray:
        return np.array([preference, factuality], np.float32).T[:, None, :]  # (N, G = 1, H)

    def test_ablation(self):
        """v = 3: c = 1, R = ½. Without the first 1, without the second 4: d = 2, -1, mean ½.

        v_s = 3 + 2(d - ½) = 6, 0; c_s = 2½, -½; r_s = ½·c_s / 2 = 0.625, -0.125: together ½.
        """
        plan = make_plan(ScoreOptions(), self.heads, ABLATION)
        ablated = [[self.values([v], [0.0])] for v in (1.0, 4.0)]
        judgement = judge([self.values([3, 7, 7], [0, 0.5, 1.5])], self.units, plan, ablated)
        assert judgement.reward == 2.5  # ½ + 2·1
        assert judgement.heads["preference"].value == 3.0
        assert [(s.head, s.value, s.reward, s.redistribution) for s in judgement.segments] == [
            ("preference", 6.0, 0.625, ABLATION),
            ("preference", 0.0, -0.125, ABLATION),
            ("factuality", 0.5, 0.5, None),
            ("factuality", 1.5, 1.5, None),
        ]

    def test_attention(self):
        """v = 3, shares ¼ and ¾ of what the response is paid: v_s = 1 + 2·share·2 = 2, 4; R = ½."""
        plan = make_plan(ScoreOptions(heads=("preference",)), self.heads, ATTENTION)
        judgement = judge([self.values([3, 0.125, 0.375], [7, 7, 7])], self.units, plan)
        assert judgement.reward == 0.5
        assert [(s.value, s.reward) for s in judgement.segments] == [(2.0, 0.125), (4.0, 0.375)]

    def test_one_sentence_is_not_marked(self):
        plan = make_plan(ScoreOptions(heads=("preference",)), self.heads, ABLATION)
        units = (Unit(RESPONSE, 0, 10), Unit(SENTENCE, 0, 10))
        (segment,) = judge([self.values([3, 7], [7, 7])], units, plan).segments
        assert (segment.start, segment.end, segment.reward) == (0, 10, 0.5)
        assert segment.redistribution is None


def test_heads_of_parts_are_left_alone():
    plan = make_plan(ScoreOptions(heads=("factuality",)), TestJudge.heads, ABLATION)
    assert plan.redistribution is None  # and so nothing more is run
    assert plan.heads == TestJudge.heads[1:]


def counting(word: str) -> ServedModel:
    """A model whose value is how often a word stands in the row."""
    tokenizer = pico_tokenizers.bert_like()
    token = tokenizer.convert_tokens_to_ids(word)

    def count(batch: Batch) -> np.ndarray:
        found = (batch.input_ids == token).sum(axis=1).astype(np.float32)
        units = batch.span_weights.shape[1]
        return np.broadcast_to(found[:, None, None, None], (batch.rows, units, 1, 1))

    manifest = Manifest(
        model_id="counting",
        text=TextSpec(
            template="pair",
            max_input_tokens=512,
            response_pooling="first",
            unit_pooling="mean",
        ),
        heads=(HeadSpec(name="reward", granularity=RESPONSE, weight=1.0),),
        ingredients=(Ingredient(name="one", file="one", coefficient=1.0, sha256="0" * 64),),
    )
    encoder = TextEncoder(tokenizer, manifest.text)
    return ServedModel(FakeBackend(count, ["reward"]), encoder, manifest, ABLATION)


def test_what_adds_up_is_credited_exactly_where_it_stands():
    """d is what a sentence holds and their sum is R, so that nothing is left to share."""
    (score,) = scored(counting("red"), "The sky is blue. It is red, red. She likes red tulips. No.")
    assert score.reward == 3.0
    assert shares(score) == pytest.approx([0.0, 2.0, 1.0, 0.0], abs=1e-12)


def test_a_response_is_run_once_more_for_each_of_its_sentences():
    model = counting("red")
    backend = model.backend
    assert isinstance(backend, FakeBackend)
    scored(model, "It is blue.")
    alone = sum(map(len, backend.seen))
    scored(model, "It is blue.", "One is red. Two is blue. Three is green.")
    assert sum(map(len, backend.seen)) == 2 * alone + 1 + 3


@torch.no_grad()
def holds(directory: Path, word: str) -> Path:
    """A BERT whose logit is tanh(1) where the row holds the word, else 0.

    Its embedding is a pattern of mean 0 and variance 1, that of all others 0. Attention is uniform
    and hands the mean on; layer norm makes of any multiple of the pattern the pattern itself.
    """
    pico.bert_classifier(directory)
    model = BertForSequenceClassification.from_pretrained(directory)
    for name, parameter in model.named_parameters():
        parameter.fill_(1.0 if name.endswith("LayerNorm.weight") else 0.0)
    pattern = torch.tensor([1.0, -1.0]).repeat(pico.HIDDEN // 2)
    weights = dict(model.named_parameters())
    token = pico_tokenizers.bert_like().convert_tokens_to_ids(word)
    weights["bert.embeddings.word_embeddings.weight"][token] = pattern
    for linear in ("self.value", "output.dense"):
        identity = torch.eye(pico.HIDDEN)
        weights[f"bert.encoder.layer.0.attention.{linear}.weight"].copy_(identity)
    weights["bert.pooler.dense.weight"][0] = pattern / pico.HIDDEN
    weights["classifier.weight"][0, 0] = 1.0
    model.save_pretrained(directory)
    return directory


def test_ablation_finds_the_sentence_a_classifier_goes_by(tmp_path: Path):
    model = load_model(holds(tmp_path / "m", "red"), device="cpu", redistribute="ablation")
    one, two, none = scored(
        model,
        "The sky is blue. The tulips are red. The river is green.",
        "Red it is. The sky is blue. The tulips are red.",
        "The sky is blue. The river is green.",
    )
    worth = math.tanh(1.0)
    assert shares(one) == pytest.approx([0.0, worth, 0.0], abs=1e-6)
    # Without either the other still holds it: no sentence alone is to thank, and all share.
    assert shares(two) == pytest.approx([worth / 3] * 3, abs=1e-6)
    assert shares(none) == pytest.approx([0.0, 0.0], abs=1e-6)


def test_a_run_that_fails_fails_the_sample():
    """A response is scored with all of its segments or not at all."""
    stub = stub_model()

    def poisoned(batch: Batch) -> np.ndarray:
        values = stub.backend.forward(batch)
        values[batch.span_weights[:, 1:].sum(axis=(1, 2)) == 0] = np.nan  # one unit: ablated
        return values

    backend = FakeBackend(poisoned)
    backend.info = stub.backend.info
    model = dataclasses.replace(stub, backend=backend, redistribution=ABLATION)
    with pytest.raises(BackendFailure, match="No reward was substituted"):
        scored(model, "One is this. Two is that.")
    assert len(scored(model, "One is this.")) == 1  # needs no more runs


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("redistribute", ["ablation", "attention"])
@pytest.mark.parametrize("make", [pico.bert_classifier, pico.llama_classifier])
def test_rewards_stay_what_they_were(tmp_path: Path, make, redistribute, labels: int):
    directory = make(tmp_path / "m", labels)
    responses = ("It is red. No, it is blue. She likes tulips.", "No.")
    plain = load_model(directory, device="cpu")
    dense = load_model(directory, device="cpu", redistribute=redistribute)
    assert dense.fingerprint == plain.fingerprint
    for before, after in zip(
        scored(plain, *responses), scored(dense, *responses, uncertainty=True), strict=True
    ):
        assert after.reward == pytest.approx(before.reward, abs=1e-6)
        assert after.uncertainty is not None
        assert (after.uncertainty.std, after.uncertainty.members) == (0.0, 1)
        for head in before.heads:
            calibrated = before.heads[head].calibrated / labels
            assert math.fsum(shares(after, head)) == pytest.approx(calibrated, abs=1e-6)


@pytest.mark.parametrize(
    ("redistribute", "options", "says"),
    [
        ("attention", {"backend": "onnx"}, "gives values alone, no attention"),
        ("gradients", {}, "known are none, ablation, attention"),
    ],
)
def test_what_a_classifier_cannot_do_is_refused(tmp_path: Path, redistribute, options, says: str):
    directory = pico.bert_classifier(tmp_path / "m")
    with pytest.raises(ModelError, match=says):
        load_model(directory, redistribute=redistribute, **options)


def test_what_other_models_cannot_do_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match="no third party's sequence classifier; use 'ablation'"):
        load_model("stub", redistribute="attention")
    fine = pico.bert_reward(tmp_path / "fine", heads=pico.HEADS[1:3])
    with pytest.raises(ModelError, match="speaks of parts of the response already"):
        load_model(fine, redistribute="ablation")
