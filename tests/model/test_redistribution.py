"""Expected values are hand arithmetic, or what a tokenizer makes of the text without a sentence."""

from __future__ import annotations

import numpy as np
import pico_tokenizers
import pytest

from tureen import Sample
from tureen.contracts import Granularity
from tureen.model.redistribution import (
    MOST_PARTS,
    SEGMENTS,
    ablated_windows,
    by_ablation,
    by_attention,
    parts,
    sentences,
)
from tureen.text.encoding import EncodedResponse, TextEncoder, Unit
from tureen.text.template import TextSpec

TEXTS = ("Rembrandt painted it. ", "It is a watch; the river is green. ", "No.")
RESPONSE = "".join(TEXTS)


def units(count: int) -> list[Unit]:
    """The response, and `count` sentences of ten characters."""
    of_sentences = [Unit(SEGMENTS, 10 * i, 10 * i + 10) for i in range(count)]
    return [Unit(Granularity.RESPONSE, 0, 10 * count), *of_sentences]


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]  # (·, H = 1)


class TestAblation:
    def test_by_hand(self):
        """v = 1; without each v is 0.6, 1.4, 0.7: d = 0.4, -0.4, 0.3, mean 0.1; v_s = 1 + 3(d - 0.1)."""
        spread = by_ablation(np.array([1.0]), column(0.6, 1.4, 0.7), units(3))
        np.testing.assert_allclose(spread, column(1.9, -0.5, 1.6), atol=1e-12)
        assert spread.mean() == pytest.approx(1.0, abs=1e-12)

    def test_of_two_sentences_it_is_the_shapley_value(self):
        """v(both) = 3, v(first) = 1, v(second) = 4, v(nothing) = 0.

        Shapley: ½[1 + (3 - 4)] = 0 and ½[4 + (3 - 1)] = 3; a reward is v_s / S.
        """
        spread = by_ablation(np.array([3.0]), column(4.0, 1.0), units(2))
        np.testing.assert_allclose(spread / 2, column(0.0, 3.0), atol=1e-12)

    def test_effects_that_add_up_to_nothing_are_no_trouble(self):
        """Twice the same sentence: without either nothing changes, so each has half."""
        np.testing.assert_array_equal(
            by_ablation(np.array([0.8]), column(0.8, 0.8), units(2)), column(0.8, 0.8)
        )
        spread = by_ablation(np.array([1.0]), column(0.0, 2.0), units(2))  # d = 1, -1
        np.testing.assert_allclose(spread / 2, column(1.5, -0.5), atol=1e-12)

    def test_one_sentence_keeps_its_value(self):
        assert by_ablation(np.array([0.7]), np.empty((0, 1)), units(1)).tolist() == [[0.7]]
        assert parts(units(1)) == []

    def test_sentences_taken_out_together_share_their_effect(self):
        """34 sentences in 32 parts, of which the first two hold 2: d = 1 for both of the first part."""
        many = units(34)
        sizes = [len(part) for part in parts(many)]
        assert sizes == [2, 2] + [1] * (MOST_PARTS - 2)
        assert np.concatenate(parts(many)).tolist() == sentences(many).tolist()
        without = np.full((MOST_PARTS, 1), 2.0)
        without[0] = 0.0
        spread = by_ablation(np.array([2.0]), without, many)
        # d = 1, 1, 0, …, 0, mean 2/34; r_s = v_s / 34 = 2/34 + d - 2/34 = d
        np.testing.assert_allclose(spread / 34, column(1, 1, *[0] * 32), atol=1e-12)

    def test_groups_and_heads_are_apart(self):
        value = np.array([[1.0, 10.0], [2.0, 20.0]])  # (G, H)
        without = np.stack([value - [[1, 0], [0, 4]], value])  # the first has d = 1, 0, 0, 4
        spread = by_ablation(value, without, units(2)) / 2
        np.testing.assert_allclose(spread[0], [[1.0, 5.0], [1.0, 12.0]])
        np.testing.assert_allclose(spread.sum(axis=0), value)


class TestAttention:
    def test_by_hand(self):
        """v = 5 above a mean of 1, shares ¼ and ¾: v_s = 1 + 2·share·4; with std 2, R = 2, r = ½, 1½."""
        spread = by_attention(np.array([5.0]), column(0.2, 0.6), np.array([1.0]))
        np.testing.assert_allclose(spread, column(3.0, 7.0), atol=1e-12)
        np.testing.assert_allclose((spread - 1) / 2 / 2, column(0.5, 1.5), atol=1e-12)

    def test_one_sentence_keeps_its_value(self):
        assert by_attention(np.array([0.1]), column(0.3), np.array([7.0])).tolist() == [[0.1]]

    def test_no_attention_at_all_is_no_number(self):
        with np.errstate(invalid="ignore"):
            spread = by_attention(np.array([5.0]), column(0.0, 0.0), np.array([1.0]))
        assert not np.isfinite(spread).any()


def encode(encoder: TextEncoder, **sample) -> EncodedResponse:
    (encoded,) = encoder.encode(Sample(responses=(RESPONSE,), **sample), {SEGMENTS})
    assert [RESPONSE[unit.start : unit.end] for unit in encoded.units[1:]] == list(TEXTS)
    return encoded


def without(number: int) -> str:
    return "".join(text for i, text in enumerate(TEXTS) if i != number)


def spec(template, pooling, tokens=512) -> TextSpec:
    return TextSpec(
        template=template,
        max_input_tokens=tokens,
        max_windows=4,
        response_pooling=pooling,
        unit_pooling="last" if pooling == "last" else "mean",
    )


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_an_ablated_pair_is_the_pair_of_the_text_without_the_sentence(pooling: str):
    tokenizer = pico_tokenizers.bert_like()
    encoded = encode(TextEncoder(tokenizer, spec("pair", pooling)), prompt="who painted it")
    for number, (window,) in enumerate(ablated_windows(encoded)):
        expected = tokenizer("who painted it", without(number))
        assert window.input_ids.tolist() == expected["input_ids"]
        assert window.token_type_ids.tolist() == expected["token_type_ids"]
        start = expected["token_type_ids"].index(1)
        last = len(window.input_ids) - 1  # the closing [SEP] is no part of the response
        assert window.spans.tolist() == [[0, 1] if pooling == "first" else [start, last]]


def test_an_ablated_chat_is_the_chat_without_the_sentence():
    tokenizer = pico_tokenizers.chat()
    encoded = encode(TextEncoder(tokenizer, spec("chat", "last")), prompt="Who?")
    for number, (window,) in enumerate(ablated_windows(encoded)):
        turns = [
            {"role": "user", "content": "Who?"},
            {"role": "assistant", "content": without(number)},
        ]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        assert isinstance(text, str)
        expected = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert window.input_ids.tolist() == expected
        assert window.spans.tolist() == [[len(expected) - 1, len(expected)]]


def test_where_the_response_ends_the_row_its_new_end_is_read():
    """Nothing stands behind the response: without its last sentence, the one before ends the row."""
    tokenizer = pico_tokenizers.chat()
    encoded = encode(TextEncoder(tokenizer, spec("plain", "last")), prompt="Who?")
    for number, (window,) in enumerate(ablated_windows(encoded)):
        row = tokenizer.decode(window.input_ids.tolist())
        assert isinstance(row, str)
        assert row.endswith(without(number))
        assert window.spans.tolist() == [[len(window.input_ids) - 1, len(window.input_ids)]]


def test_every_window_of_a_long_context_is_ablated():
    tokenizer = pico_tokenizers.bert_like()
    context = tuple(f"the river is {colour}." for colour in ("green", "red", "blue") * 4)
    encoder = TextEncoder(tokenizer, spec("pair", "first", tokens=60))
    encoded = encode(encoder, prompt="who painted it", context=context)
    assert len(encoded.windows) > 1
    for number, windows in enumerate(ablated_windows(encoded)):
        expected = tokenizer(without(number), add_special_tokens=False)["input_ids"]
        for whole, window in zip(encoded.windows, windows, strict=True):
            start = whole.response_start
            assert window.input_ids[:start].tolist() == whole.input_ids[:start].tolist()
            assert window.input_ids[start:-1].tolist() == expected
