"""Special tokens stand where the tokenizer puts them."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import pico_tokenizers
import psutil
import pytest
from tokenizers.processors import TemplateProcessing

from tureen.engine.stub_backend import stub_model
from tureen.text.layout import Layout, private_backend, tokenize
from tureen.text.segments import Span


def layout(tokenizer, *, pair: bool) -> Layout:
    return Layout.of(tokenizer, private_backend(tokenizer), pair=pair)


@pytest.mark.parametrize(
    ("make", "around"),
    [
        (pico_tokenizers.bert_like, ("[CLS]", "[SEP]", "[SEP]")),
        (pico_tokenizers.byte_bpe, ("<s>", "</s>", "</s>")),
        (pico_tokenizers.roberta_like, ("<s>", "</s></s>", "</s>")),
        (pico_tokenizers.chat, ("<s>", "", "")),
    ],
)
def test_the_layout_of_a_pair_is_learnt(make, around):
    tokenizer = make()
    learnt = layout(tokenizer, pair=True)
    parts = learnt.prefix, learnt.middle, learnt.suffix
    assert tuple(tokenizer.decode(part.ids).replace(" ", "") for part in parts) == around


def test_type_ids_are_zeros_for_a_model_that_takes_none():
    tokenizer = pico_tokenizers.bert_like()
    assert layout(tokenizer, pair=True).type_ids == (0, 1)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    assert layout(tokenizer, pair=True).type_ids == (0, 0)


@pytest.mark.parametrize(
    ("prompt", "pair", "tokens"),
    [
        ("a", False, ["<s>", "a", "</s>"]),
        ("<s>a", False, ["<s>", "a", "</s>"]),  # once, though the text brings its own
        ("<s>a", True, ["<s>", "<s>", "a", "</s>", "a", "</s>"]),  # as transformers has it
    ],
)
def test_beginning_of_sequence(prompt, pair, tokens):
    tokenizer = pico_tokenizers.byte_bpe()
    backend = private_backend(tokenizer)
    second = tokenize(backend, "a") if pair else None
    row = layout(tokenizer, pair=pair).join(tokenize(backend, prompt), second)
    assert tokenizer.convert_ids_to_tokens(row.input_ids.tolist()) == tokens


def test_texts_in_another_order_are_refused():
    tokenizer = pico_tokenizers.bert_like()
    ids = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $B [SEP] $A [SEP]", special_tokens=ids
    )
    with pytest.raises(ValueError, match="one after the other"):
        layout(tokenizer, pair=True)


def test_a_token_belongs_where_its_last_character_stands():
    # 3 bytes of "日" are 3 tokens with the same character; "b" follows.
    tokens = tokenize(private_backend(pico_tokenizers.byte_bpe()), "a日b")
    assert tokens.starts.tolist() == [0, 1, 1, 1, 2]
    assert tokens.keys.tolist() == [0, 1, 1, 1, 2]
    assert tokens.within(Span(1, 2)) == (1, 4)
    assert tokens.overlapping(Span(1, 3)) == (1, 5)
    assert tokens.within(Span(3, 3)) == (5, 5)


def test_other_threads_go_on_while_a_long_text_is_tokenised():
    backend = private_backend(pico_tokenizers.byte_bpe())
    started = last = time.perf_counter()
    longest = 0.0
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(tokenize, backend, "Word and word. " * 40_000)
        while not work.done():
            time.sleep(0.001)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
    assert longest < (last - started) / 2
    assert len(work.result().ids) > 40_000


def test_whole_texts_are_not_remembered():
    """A BPE model keeps what it made of 10,000 words, which were texts of 8 KB here: 80 MB."""
    backend = private_backend(stub_model().encoder.tokenizer)
    draw = random.Random(0)

    def read_texts(count: int) -> float:
        for _ in range(count):
            tokenize(backend, f"{draw.random():.17f} " * 12)
        return psutil.Process().memory_info().rss / 2**20

    before_mb = read_texts(500)
    assert read_texts(6000) - before_mb < 20
