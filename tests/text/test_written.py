"""Texts that come written out: verbatim for decoders, taken apart for models that read pairs."""

from collections.abc import Set

import pytest

from tureen.contracts import Granularity, Sample, Truncate
from tureen.errors import InputTooLong, InvalidRequest
from tureen.text.written import SpecialTokens, TokenIds, Transcript, split, without_ending

ALL = frozenset(Granularity)
CHATML = "<|im_start|>user\nwho?<|im_end|>\n<|im_start|>assistant\n"
ANSWER = "it is he.<|im_end|>\n"


def written(prompt: str, response: str, special_tokens: SpecialTokens = "none") -> Transcript:
    return Transcript(prompt=prompt, responses=(response,), special_tokens=special_tokens)


def ids(encoder, sample: Sample, granularities: Set[Granularity] = ALL, **options) -> list[int]:
    (encoded,) = encoder.encode(sample, granularities, **options)
    (window,) = encoded.windows
    return window.input_ids.tolist()


@pytest.mark.parametrize("special_tokens", ["none", "bos", "all"])
@pytest.mark.parametrize("opening", ["<s>", "<s><s>"])
def test_what_the_client_templated_is_what_the_template_makes(encoder, special_tokens, opening):
    """The begin token once, however often it came; units where those of the conversation are."""
    chat = encoder("chat")
    (own,) = chat.encode(Sample(prompt="who?", responses=("it is he.",)), ALL)
    (read,) = chat.encode(written(opening + CHATML, ANSWER, special_tokens), ALL)
    assert read.windows[0].input_ids.tolist() == own.windows[0].input_ids.tolist()
    assert read.windows[0].spans.tolist() == own.windows[0].spans.tolist()
    assert read.doubled_bos == (opening == "<s><s>")


def test_a_begin_token_the_client_removed_is_added_where_that_is_the_rule(encoder):
    chat = encoder("chat")
    own = ids(chat, Sample(prompt="who?", responses=("it is he.",)))
    assert ids(chat, written(CHATML, ANSWER, "all")) == own
    assert ids(chat, written(CHATML, ANSWER, "none")) == own[1:]


@pytest.mark.parametrize(
    ("special_tokens", "text", "expected"),
    [
        ("none", "q abc", "q abc"),
        ("bos", "q abc", "<s>q abc"),
        ("all", "q abc", "<s>q abc</s>"),
        ("all", "<s>q abc</s>", "<s>q abc</s>"),
        ("bos", "q abc</s>", "<s>q abc</s>"),
    ],
)
def test_special_tokens_are_added_once(encoder, special_tokens, text, expected):
    plain = encoder("byte plain", response_pooling="last")
    read = ids(plain, written("", text, special_tokens), {Granularity.RESPONSE})
    assert plain.tokenizer.decode(read) == expected


@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        (CHATML, ANSWER),
        ("<s>" + CHATML, "it is he.<|im_end|></s>"),
        ("<s>user: who?\nassistant: ", "it is he.</s>"),
        ("<s>[INST] who? [/INST]", "it is he.</s>"),
        (
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nwho?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            "it is he.<|eot_id|>",
        ),
        ("<bos><start_of_turn>user\nwho?<end_of_turn>\n<start_of_turn>model\n", "it is he.<eos>"),
        ("who?", "it is he."),
    ],
)
def test_a_model_of_pairs_reads_them_without_the_markup(encoder, prompt, response):
    pair = encoder("bert pair")
    expected = pair.tokenizer("who?", "it is he.")["input_ids"]
    assert ids(pair, written(prompt, response)) == expected


def test_without_a_prompt_a_model_of_pairs_reads_a_single_text(encoder):
    pair = encoder("bert pair")
    assert ids(pair, written("", "it is he.")) == pair.tokenizer("it is he.")["input_ids"]


def test_what_is_cut_is_the_prompt_and_never_what_opens_the_row(encoder):
    """Of a hundred letters as many are left as 48 tokens have room for beside all else."""
    chat = encoder("chat", max_input_tokens=48)
    (cut,) = chat.encode(written("<s>" + "a" * 100 + CHATML, ANSWER), ALL, truncate=Truncate.PROMPT)
    (whole,) = encoder("chat").encode(written("<s>" + CHATML, ANSWER), ALL)
    rest = whole.windows[0].input_ids.tolist()[1:]
    bos, letter = chat.tokenizer.convert_tokens_to_ids(["<s>", "a"])
    kept = 48 - 1 - len(rest)
    assert cut.windows[0].input_ids.tolist() == [bos, *[letter] * kept, *rest]
    assert cut.truncated_tokens == 100 - kept
    with pytest.raises(InputTooLong):
        chat.encode(written("<s>" + "a" * 100 + CHATML, ANSWER), ALL)


def test_token_ids_are_the_row(encoder):
    chat = encoder("chat", response_pooling="last")
    row = ids(chat, Sample(prompt="who?", responses=("it is he.",)))
    sample = TokenIds(responses=("",), ids=tuple(row))
    assert ids(chat, sample, {Granularity.RESPONSE}) == row
    doubled = TokenIds(responses=("",), ids=(row[0], *row))
    assert ids(chat, doubled, {Granularity.RESPONSE}) == row


@pytest.mark.parametrize(
    ("place", "granularities", "given", "says"),
    [
        ("chat", {Granularity.RESPONSE}, (), "at least 1"),
        ("chat", {Granularity.RESPONSE}, (5, 10**6), "0 to 260"),
        ("chat", {Granularity.RESPONSE}, (-1,), "0 to 260"),
        ("chat", {Granularity.SENTENCE}, (5,), "per sentence"),
        ("bert pair", {Granularity.RESPONSE}, (5,), "send text"),
    ],
)
def test_token_ids_that_cannot_be_read(encoder, place, granularities, given, says):
    with pytest.raises(InvalidRequest, match=says):
        encoder(place, response_pooling="last").encode(
            TokenIds(responses=("",), ids=given), granularities
        )


@pytest.mark.parametrize(
    ("text", "prompt", "expected"),
    [
        ("ab", "a", ("a", "b", "given")),
        ("<s>ab", "a", ("<s>a", "b", "given")),
        ("aab", "a", ("a", "ab", "given")),
        ("\ufffdx" + "y" * 40 + "b", "wx" + "y" * 40, ("\ufffdx" + "y" * 40, "b", "given")),
        (CHATML + "b", None, (CHATML, "b", "found")),
        (CHATML + "b", "something else", (CHATML, "b", "found")),
        (
            CHATML + "a<|im_end|>\n" + CHATML + "b",
            None,
            (CHATML + "a<|im_end|>\n" + CHATML, "b", "found"),
        ),
        ("user: a\nassistant: b", None, ("user: a\nassistant: ", "b", "found")),
        ("user: a assistant: b", None, ("", "user: a assistant: b", "whole")),
        ("text", None, ("", "text", "whole")),
        ("a", "a", ("", "a", "whole")),
        ("", "a", ("", "", "whole")),
    ],
)
def test_split(text, prompt, expected):
    assert split(text, prompt) == expected
    assert "".join(expected[:2]) == text


def test_a_prompt_that_was_cut_from_the_left_is_found_by_its_end():
    prompt = "".join(f"word {number}, " for number in range(1000)) + "\nassistant: "
    text = prompt[5000:] + "word 999, and so on"
    assert split(text, prompt) == (prompt[5000:], "word 999, and so on", "given")


def test_finding_a_prompt_takes_no_time_whatever_the_texts_are():
    """A quadratic search of these would take minutes."""
    prompt = "b" + "a" * 1_000_000
    assert split("c" + "a" * 1_000_000, prompt)[2] == "whole"
    assert without_ending(" " * 1_000_000 + "x" + "</s>" * 100) == " " * 1_000_000 + "x"


def test_only_what_ends_a_response_is_taken_off():
    assert without_ending(" <s> it is <|im_end|> he.  \n<|im_end|>\n</s>\n") == (
        " <s> it is <|im_end|> he.  \n"
    )
