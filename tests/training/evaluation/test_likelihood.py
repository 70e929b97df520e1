"""Log-probabilities against one forward pass a text, without padding."""

from __future__ import annotations

from pathlib import Path

import pico
import pytest
import torch

from tureen.contracts import Message
from tureen_training.evaluation.language_models import LanguageModel, open_language_model
from tureen_training.evaluation.likelihood import (
    Text,
    continuation,
    log_probs,
    sentence,
    too_long,
)

SENTENCES = ["The cat.", "Red tulips by the river, and the night is blue.", "No", "The sky is blue"]


@pytest.fixture(scope="module")
def causal(tmp_path_factory) -> LanguageModel:
    return open_language_model(str(pico.llama_policy(tmp_path_factory.mktemp("causal") / "m")))


@pytest.fixture(scope="module")
def chat(tmp_path_factory) -> LanguageModel:
    root = tmp_path_factory.mktemp("chat") / "m"
    return open_language_model(str(pico.llama_policy(root, chat=True)))


@pytest.fixture(scope="module")
def masked(tmp_path_factory) -> LanguageModel:
    return open_language_model(str(pico.bert_masked(tmp_path_factory.mktemp("masked") / "m")))


def alone(model: LanguageModel, text: Text) -> float:
    """By the definition, one text at a time: causal from the logits before, masked with one token hidden."""
    ids, total = torch.tensor([text.ids]), 0.0
    for place in text.counted:
        if model.masked:
            hidden = ids.clone()
            hidden[0, place] = int(model.policy.tokenizer.mask_token_id)  # pyright: ignore[reportArgumentType]
            line = model.policy.model(input_ids=hidden).logits[0, place]
        else:
            line = model.policy.model(input_ids=ids[:, :place]).logits[0, -1]
        total += line.log_softmax(-1)[text.ids[place]].item()
    return total


@pytest.mark.parametrize("kind", ["causal", "masked"])
@pytest.mark.parametrize("max_batch_tokens", [1, 10_000])
def test_neighbours_and_padding_leave_no_trace(kind: str, max_batch_tokens: int, request):
    model = request.getfixturevalue(kind)
    texts = [sentence(model, text) for text in SENTENCES]
    texts.append(Text(texts[1].ids, texts[1].counted[3:7]))  # a part from the middle of it
    with torch.inference_mode():
        expected = [alone(model, text) for text in texts]
    assert log_probs(model, texts, max_batch_tokens) == pytest.approx(expected, abs=2e-3)


def test_a_sentence_is_read_after_the_beginning_of_text(causal: LanguageModel):
    tokenizer = causal.policy.tokenizer
    text = sentence(causal, "No")
    assert (text.ids[0], text.counted) == (tokenizer.bos_token_id, (1, 2))
    assert tokenizer.decode(list(text.ids[1:])) == "No"


def test_without_one_it_is_read_after_the_end_of_text(tmp_path: Path):
    model = open_language_model(str(pico.llama_policy(tmp_path / "m")))
    tokenizer = model.policy.tokenizer
    tokenizer.backend_tokenizer.post_processor = None  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.bos_token = None
    text = sentence(model, "No")
    assert text.ids[0] == tokenizer.eos_token_id
    assert text.counted == (1, 2)


def test_special_tokens_of_a_masked_model_do_not_count(masked: LanguageModel):
    text = sentence(masked, "the cat")
    assert len(text.ids) == 4  # [CLS] the cat [SEP]
    assert text.counted == (1, 2)


def test_a_continuation_counts_alone(causal: LanguageModel, chat: LanguageModel):
    text = continuation(causal, "Q: no?\nA:", "No")
    assert len(text.counted) == 3  # a byte each: the space, N, o
    assert causal.policy.tokenizer.decode(list(text.ids[text.counted[0] :])) == " No"
    text = continuation(chat, (Message(role="user", content="no?"),), "No")
    decoded = chat.policy.tokenizer.decode(list(text.ids))
    assert decoded == "<s><|im_start|>user\nno?<|im_end|>\n<|im_start|>assistant\nNo"
    assert len(text.counted) == 2


def test_what_is_too_long_is_an_error(causal: LanguageModel):
    long = Text(tuple([0] * 1537), (1,))
    assert too_long(causal, [Text((0, 1), (1,))]) is None
    error = too_long(causal, [Text((0, 1), (1,)), long])
    assert error is not None
    assert (error.code, error.got, error.limit) == ("input_too_long", 1537, 1536)


def test_a_model_without_a_head_is_refused(tmp_path: Path):
    pico.bert_base(tmp_path / "base")
    with pytest.raises(ValueError, match="is BertModel, which has no head that predicts tokens"):
        open_language_model(str(tmp_path / "base"))


def test_a_head_that_was_not_stored_is_refused(tmp_path: Path):
    directory = pico.bert_masked(tmp_path / "m")
    pico.bert_base(tmp_path / "base")
    (tmp_path / "base/model.safetensors").replace(directory / "model.safetensors")
    with pytest.raises(ValueError, match=r"has no weights for .*: its head was not stored"):
        open_language_model(str(directory))
