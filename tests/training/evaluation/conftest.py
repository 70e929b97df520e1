from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import corpus_files
import feedback_files
import pico
import pytest

ROW = 512  # a row of characters is long


@pytest.fixture(scope="package")
def models(tmp_path_factory) -> Path:
    """A folder with two pico models, one of which has thresholds, for TUREEN_MODELS."""
    root = tmp_path_factory.mktemp("models")
    heads = tuple(
        replace(head, threshold=0.05) if head.name in ("relevance", "factuality") else head
        for head in pico.HEADS
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pico, "MAX_INPUT_TOKENS", ROW)
        text = replace(pico.PAIR, max_input_tokens=ROW)
        pico.bert_reward(root / "judge", heads=heads, text=text)
        pico.bert_reward(root / "other", seed=1, text=text)
    return root


@pytest.fixture(scope="package")
def feedback(tmp_path_factory) -> Path:
    return feedback_files.directory(tmp_path_factory.mktemp("feedback"), questions=12)


@pytest.fixture(scope="package")
def dialogues(tmp_path_factory) -> Path:
    """HH-RLHF: six pairs harmless, six helpful of which one is too long for the models."""
    root = tmp_path_factory.mktemp("dialogues")
    records = [corpus_files.hh(number) for number in range(6)]
    feedback_files.write(root / "harmless-base.test.jsonl.gz", records)
    long = dict(records[0])
    long["rejected"] += " Gulls!" * ROW
    feedback_files.write(root / "helpful-base.test.jsonl", [long, *records[1:]])
    return root


@pytest.fixture(scope="package")
def inventions(tmp_path_factory) -> Path:
    """HaluEval: 60 answers, every third without anything made up, and 8 questions."""
    root = tmp_path_factory.mktemp("inventions")
    general = [corpus_files.halueval_general(number) for number in range(60)]
    clean = {
        "chatgpt_response": "Anna Berg did.",
        "hallucination": "no",
        "hallucination_spans": [],
        "span_offsets": [],
    }
    records = [r | clean if number % 3 == 0 else r for number, r in enumerate(general)]
    feedback_files.write(root / "general.jsonl", records)
    questions = [corpus_files.halueval_qa(number) for number in range(8)]
    feedback_files.write(root / "qa_candidates.jsonl", questions)
    return root
