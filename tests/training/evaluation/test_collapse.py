"""Diversity, entropy and perplexity of policies: by hand, and a policy against itself."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pico
import pytest
import torch

from tureen_training import evaluate
from tureen_training.evaluation.collapse import Said, changes, of_policy, perplexity, windows
from tureen_training.evaluation.language_models import open_language_model
from tureen_training.evaluation.likelihood import sentence


def said(*responses: str, nats: float = 1.0) -> Said:
    """A token a letter; the last of a response ends it."""
    tokens = tuple(tuple(map(ord, text)) for text in responses)
    return Said(tokens, responses, (True,) * len(responses), (nats,) * len(responses))


def test_figures_by_hand():
    own = [said("abc", "abc", nats=3.0), said("abcd", "efgh", nats=2.0)]
    found = of_policy(own, {"t": (6.0, 3), "u": (2.0, 1)}, vocabulary=100)
    # bigrams: ab bc ab bc -> 2 of 4; ab bc cd ef fg gh -> 6 of 6
    assert found["per_input_distinct_2"].value == pytest.approx((0.5 + 1.0) / 2)
    assert found["per_input_identical"].value == 0.5
    # across: abc with abcd -> 3 of 5; abc with efgh -> 5 of 5
    assert found["across_inputs_distinct_2"].value == pytest.approx((0.6 + 1.0) / 2)
    assert found["entropy"].value == pytest.approx((3 + 3 + 2 + 2) / 14)
    assert found["tokens"].value == 3.5
    assert found["perplexity"].value == pytest.approx(math.exp(8 / 4))
    # EAD = N / (V (1 − ((V − 1) / V)^C))
    ead = [n / (100 * (1 - 0.99**c)) for n, c in ((2, 4), (6, 6))]
    assert found["per_input_ead_2"].value == pytest.approx(sum(ead) / 2)


def test_changes_are_paired():
    before = [said("abc", "def"), said("ab", "cd")]
    after = [said("abc", "abc"), said("ab", "cd", nats=3.0)]
    losses = {"before": {"t": (4.0, 4)}, "after": {"t": (8.0, 4)}}
    found = changes({"before": before, "after": after}, losses, (100, 100))
    assert found["per_input_distinct_2"].value == pytest.approx((-0.5 + 0) / 2)
    assert found["entropy"].value == pytest.approx((1 + 1 + 3 + 3) / 10 - 4 / 10)
    assert found["perplexity"].value == pytest.approx(math.e)
    assert perplexity(np.array([[1.0, 2], [3.0, 2]])) == pytest.approx(math.e)


@pytest.mark.parametrize("length", [1, 2, 5, 6, 9, 10, 11])
def test_windows_predict_every_token_but_the_first_once(length: int):
    ids = tuple(range(length))
    parts = windows(ids, room=5)
    assert all(len(part.ids) <= 5 for part in parts)
    assert [part.ids[place] for part in parts for place in part.counted] == list(ids[1:])


def test_a_policy_against_itself_has_not_changed(tmp_path: Path):
    policy = pico.llama_policy(tmp_path / "policy")
    (tmp_path / "prompts.jsonl").write_text(
        "".join(json.dumps({"id": f"p{n}", "prompt": f"Why {n}?"}) + "\n" for n in range(3))
    )
    text = "The sky was blue.\nThe river was not. " * 32  # longer than a window
    (tmp_path / "text.jsonl").write_text(json.dumps({"text": text}) + "\n")
    config = evaluate.Config(
        suite="collapse",
        data=str(tmp_path),
        before=str(policy),
        after=str(policy),
        prompts=(str(tmp_path / "prompts.jsonl"),),
        text=str(tmp_path / "text.jsonl"),
        responses_per_prompt=3,
        max_new_tokens=8,
        out=str(tmp_path / "out"),
    )
    found = evaluate.main(config)
    assert found["change_entropy"].value == 0.0
    assert found["change_perplexity"].value == 1.0
    assert found["change_per_input_self_bleu"].value == 0.0
    assert found["before_tokens"] == found["after_tokens"]
    assert found["before_per_input_identical"].prompts == 3
    # the entropy against a pass of the model over what it wrote
    model = open_language_model(str(policy))
    record = json.loads(
        (tmp_path / "out/results.responses-before.jsonl").read_text().splitlines()[1]
    )
    prompt = sentence(model, "Question: Why 0?\nAnswer:").ids
    ids = torch.tensor([[*prompt, *record["tokens"][0]]])
    with torch.no_grad():
        lines = model.policy.model(input_ids=ids).logits[0].log_softmax(-1)
    own = [-lines[len(prompt) + n - 1, token].item() for n, token in enumerate(record["tokens"][0])]
    assert record["nats"][0] == pytest.approx(sum(own), abs=1e-3)
    assert evaluate.main(config) == found  # from what was kept


def test_prompts_that_leave_no_room(tmp_path: Path):
    policy = pico.llama_policy(tmp_path / "policy")
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"prompt": "Why? " * 400}) + "\n")
    config = evaluate.Config(
        suite="collapse",
        data=str(tmp_path),
        policy=str(policy),
        prompts=(str(tmp_path / "prompts.jsonl"),),
    )
    with pytest.raises(ValueError, match="no prompt leaves room for 48 tokens"):
        evaluate.main(config)
