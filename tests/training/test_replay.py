import math
from pathlib import Path

import pico_ppo
import pytest
import torch
from torch import tensor

from tureen_training.policies import end_id, load_policy, prompt_ids
from tureen_training.replay import average, learnt_tokens, read_cloze, tax, text_losses
from tureen_training.sft import IGNORED, encode_files


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return pico_ppo.directory(tmp_path_factory.mktemp("replay"))


def log_probs(model, ids: list[int]) -> list[float]:
    """Of each token but the first: one row without padding, its softmax taken plainly."""
    with torch.no_grad():
        logits = model(input_ids=tensor([ids])).logits[0].double()
    rows = logits.softmax(-1).log()
    return [rows[i, token].item() for i, token in enumerate(ids[1:])]


def test_losses_of_texts_in_a_batch_are_those_of_each_alone(root: Path):
    policy = load_policy(root / "policy")
    ids = [prompt_ids(policy.tokenizer, prompt) for prompt in pico_ppo.PROMPTS]
    texts = [{"input_ids": ids[0], "labels": ids[0]}]
    texts.append({"input_ids": ids[2], "labels": [IGNORED] * 4 + ids[2][4:]})
    losses = text_losses(policy.model, texts, "cpu")
    expected = [-x for x in log_probs(policy.model, ids[0])]
    expected += [-x for x in log_probs(policy.model, ids[2])[3:]]
    torch.testing.assert_close(losses, tensor(expected), atol=1e-5, rtol=1e-5)
    assert len(losses) == learnt_tokens(texts)


def test_perplexity_and_cloze_by_a_plain_loop(root: Path):
    policy = load_policy(root / "policy")
    texts, _ = encode_files([str(root / "text.jsonl")], policy.tokenizer, 64)
    all_losses = [-x for text in texts for x in log_probs(policy.model, text["input_ids"])]
    records = [
        {"prompt": prompt, "answer": answer, "choices": ["blue", "red", "the sea"]}
        for prompt in pico_ppo.PROMPTS
        for answer in ("blue", "red", "the sea")
    ]
    pico_ppo.write(root / "questions.jsonl", records)
    questions = read_cloze([str(root / "questions.jsonl")], policy.tokenizer)
    found = tax(policy, texts, questions, batch=2)
    assert found["perplexity"] == pytest.approx(
        math.exp(sum(all_losses) / len(all_losses)), rel=1e-5
    )
    right = 0
    for record in records:
        opening = list(policy.tokenizer(record["prompt"])["input_ids"])
        sums = {}
        for choice in record["choices"]:
            own = list(policy.tokenizer(" " + choice)["input_ids"])
            sums[choice] = sum(log_probs(policy.model, opening + own)[-len(own) :])
        right += max(sums, key=sums.__getitem__) == record["answer"]
    assert right == 4  # one of the three answers to each prompt is the favourite
    assert found["cloze"]["value"] == pytest.approx(4 / 12)
    assert found["cloze"]["n"] == 12
    assert found["cloze"]["guessing"] == pytest.approx(1 / 3)
    assert found["cloze"]["low"] < 4 / 12 < found["cloze"]["high"]
    assert tax(policy, [], [], batch=2) == {}


def test_texts_end_with_the_end_of_text(root: Path):
    policy = load_policy(root / "policy")
    texts, _ = encode_files([str(root / "text.jsonl")], policy.tokenizer, 64)
    assert all(text["input_ids"][-1] == end_id(policy.tokenizer) for text in texts)


def test_averages_by_hand():
    start, trained = {"a": tensor([0.0, 4.0])}, {"a": tensor([1.0, 2.0])}
    assert average(start, trained, 0.25)["a"].tolist() == [0.25, 3.5]
    assert average(start, trained, 0.0)["a"].tolist() == [0.0, 4.0]
    assert average(start, trained, 1.0)["a"].tolist() == [1.0, 2.0]
