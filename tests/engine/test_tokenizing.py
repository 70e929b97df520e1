"""What was tokenised in another process is scored as what the engine tokenises itself."""

from __future__ import annotations

import dataclasses
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pico
import pytest
from held_engine import Engine, request, rewards, run

from tureen.contracts import Message, Sample, ScoreRequest
from tureen.engine.loading import load_model
from tureen.engine.scorer import Scorer
from tureen.engine.stub_backend import stub_model
from tureen.engine.tokenizing import SampleTokenizer, Tokenized, TokenizedSample, digest_of
from tureen.errors import InputTooLong, UnknownHead
from tureen.text.encoding import TextEncoder
from tureen.text.written import TokenIds

SAMPLES = (
    Sample(
        id="long",
        prompt="Who painted it?",
        responses=("Rembrandt painted it, in 1642. It hangs in Amsterdam.", "Vermeer."),
        context=("The Night Watch is a painting by Rembrandt.",),
    ),
    Sample(id="too long", prompt="x" * 5000, responses=("No.",)),
    Sample(id="short", prompt="Who?", responses=("Nobody knows who painted it.",)),
)


def sent(tokenizer: SampleTokenizer, options: ScoreRequest) -> Tokenized:
    """By a copy of the tokenizer, and the outcome as it comes out of a pickle."""
    elsewhere: SampleTokenizer = pickle.loads(pickle.dumps(tokenizer))
    found = elsewhere.tokenize(options.samples, elsewhere.plan(options), options.truncate)
    return pickle.loads(pickle.dumps(found))


@pytest.mark.parametrize("options", [{}, {"heads": ("relevance",)}, {"segments": False}])
def test_scores_are_the_same_and_the_engine_tokenises_nothing(monkeypatch, options: dict):
    async def test():
        asked = request(*SAMPLES, **options)
        async with Engine() as engine:
            expected = await engine.scorer.score(asked)
        async with Engine() as engine:
            tokenized = sent(engine.scorer.tokenizers()["stub"], asked)
            monkeypatch.delattr(TextEncoder, "encode")
            found = await engine.scorer.score(asked, tokenized=tokenized)
        assert rewards(found) == rewards(expected)
        assert [one.scores for one in found.results] == [one.scores for one in expected.results]
        assert [one.error for one in found.results] == [one.error for one in expected.results]
        assert [one.error is None for one in found.results] == [True, False, True]
        assert found.timings.tokenize_ns == tokenized[1]
        assert found.timings.total_ns > tokenized[1]

    run(test)


def test_values_are_remembered_whoever_tokenised():
    async def test():
        asked = request(SAMPLES[0])
        async with Engine() as engine:
            await engine.scorer.score(asked)
            misses = engine.cache("miss")
            tokenized = sent(engine.scorer.tokenizers()["stub"], asked)
            await engine.scorer.score(asked, tokenized=tokenized)
            assert engine.cache("miss") == misses
            assert engine.cache("hit") == 2  # responses

    run(test)


def test_parts_that_are_taken_out_travel_too(tmp_path: Path):
    directory = pico.bert_classifier(tmp_path)
    asked = ScoreRequest(samples=(SAMPLES[0],))

    async def test():
        model = load_model(directory, redistribute="ablation")
        scorer = Scorer([model])
        await scorer.start()
        expected = await scorer.score(asked)
        tokenized = sent(scorer.tokenizers()[model.model_id], asked)
        [one] = tokenized[0]
        assert isinstance(one, TokenizedSample)
        assert [len(windows) for windows in one.windows] == [3, 1]  # whole, and without each of two
        found = await scorer.score(asked, tokenized=tokenized)
        assert found.results == expected.results
        await scorer.stop()

    run(test)


def test_a_digest_is_of_all_that_the_device_is_given():
    model = stub_model()
    tokenizer = SampleTokenizer.of(model.encoder, model.heads, None)
    asked = ScoreRequest(samples=(SAMPLES[2],))
    [one], _ = tokenizer.tokenize(asked.samples, tokenizer.plan(asked), asked.truncate)
    assert isinstance(one, TokenizedSample)
    [[plain]] = one.windows
    window = dataclasses.replace(plain, unit_features=np.zeros((len(plain.spans), 8), np.float32))
    assert digest_of(window) != digest_of(plain)
    for field in ("input_ids", "token_type_ids", "spans", "unit_features"):
        changed = getattr(window, field).copy()
        changed.flat[-1] += 1
        assert digest_of(dataclasses.replace(window, **{field: changed})) != digest_of(window)
    moved = dataclasses.replace(  # the same bytes, and another border between two arrays
        window,
        input_ids=np.append(window.input_ids, window.token_type_ids[0]),
        token_type_ids=window.token_type_ids[1:],
    )
    assert digest_of(moved) != digest_of(window)


class Counted(ThreadPoolExecutor):
    """Threads, and how much was handed to them."""

    given = 0

    def submit(self, *args, **kwargs):
        self.given += 1
        return super().submit(*args, **kwargs)


@pytest.mark.parametrize(
    ("sample", "given", "given_alone"),
    [
        (SAMPLES[0], 0, 0),
        (SAMPLES[1], 1, 0),  # 5,000 characters
        (TokenIds(responses=("",), ids=(1,) * 1000), 0, 0),
        (TokenIds(responses=("",), ids=(1,) * 100_000), 1, 1),
        (Sample(prompt="Who?", responses=("No.",), offsets=(((0, 3),),)), 0, 0),
        (Sample(prompt="Who?", responses=("No.",), offsets=(((0, 3),) * 100_000,)), 1, 1),
        (Sample(prompt="Who?", responses=("No.",), context=("",) * 100_000), 1, 1),
        (Sample(messages=(Message(role="user", content="?"),) * 2000, responses=("No.",)), 1, 0),
        (Sample(prompt="Who?", responses=("No.",) * 5), 1, 0),
        (Sample(prompt="Who?", responses=("No.",) * 9), 1, 1),
    ],
)
def test_what_is_large_leaves_the_event_loop(sample: Sample, given: int, given_alone: int):
    model = stub_model()
    tokenizer = SampleTokenizer.of(model.encoder, model.heads, None)
    asked = ScoreRequest(samples=(sample,))

    for alone, handed in ((False, given), (True, given_alone)):
        with Counted(1) as threads:

            async def test(alone=alone, threads=threads):
                plan = tokenizer.plan(asked)
                chunks = tokenizer.in_chunks(
                    asked.samples, plan, asked.truncate, threads, alone=alone
                )
                assert [len(found) async for found, _ in chunks] == [1]

            run(test)
        assert threads.given == handed


def test_wrong_options_and_samples_are_refused_where_they_are_tokenised():
    model = stub_model()
    tokenizer = SampleTokenizer.of(model.encoder, model.heads, None)
    with pytest.raises(UnknownHead, match="'beauty'"):
        tokenizer.plan(ScoreRequest(samples=SAMPLES, heads=("beauty",)))
    asked = ScoreRequest(samples=SAMPLES)
    found, _ = tokenizer.tokenize(asked.samples, tokenizer.plan(asked), asked.truncate)
    assert isinstance(found[1], InputTooLong)
