"""Text as the tokenizer gets it, and where its parts stand."""

import pytest
from pico_tokenizers import CHAT_TEMPLATE, STRIPPING_CHAT_TEMPLATE, chat

from tureen.contracts import Granularity, Message, Sample
from tureen.errors import InvalidRequest
from tureen.text.segments import segment
from tureen.text.template import (
    Rendered,
    TextSpec,
    context_sentences,
    from_turn,
    render_chat,
    render_first,
    render_plain,
    turn_starts,
)

CONTEXT = (" It is red. Very.\n", "  ", "It is blue.")


def parts(rendered: Rendered) -> tuple[str, str, str]:
    spans = rendered.prompt, rendered.context, rendered.response
    prompt, context, response = (rendered.text[start:end] for start, end in spans)
    return prompt, context, response


def user(content: str) -> Message:
    return Message(role="user", content=content)


def assistant(content: str) -> Message:
    return Message(role="assistant", content=content)


def test_the_first_text_of_a_pair():
    bare = render_first(Sample(prompt="Why? ", responses=("So.",)))
    assert (bare.text, parts(bare)) == ("Why? ", ("Why? ", "", ""))
    full = render_first(Sample(prompt="Why? ", context=CONTEXT, responses=("So.",)))
    assert full.text == "Why? \nIt is red. Very.\nIt is blue."
    assert parts(full) == ("Why? ", "It is red. Very.\nIt is blue.", "")


def test_messages_become_lines():
    sample = Sample(messages=(user("Hi"), assistant("Ho"), user("Why?")), responses=("So.",))
    assert render_first(sample).text == "user: Hi\nassistant: Ho\nuser: Why?"


def test_plain():
    first, second = render_plain(Sample(prompt="P", context=("C",), responses=("A ", " B")))
    assert (first.text, parts(first)) == ("P\nC\nA ", ("P", "C", "A "))
    assert (second.text, parts(second)) == ("P\nC\n B", ("P", "C", " B"))


def test_sentences_of_the_context_end_with_their_passage():
    sample = Sample(prompt="P", context=("No end. here", "Next. Last"), responses=("A",))
    text = render_first(sample).text[2:]
    starts = context_sentences(sample, "pair")
    assert [text[s:e] for s, e in zip(starts, [*starts[1:], len(text)], strict=True)] == [
        "No end. ",
        "here\n",
        "Next. ",
        "Last",
    ]
    assert context_sentences(sample, "chat") == [*starts[:2], *(start + 1 for start in starts[2:])]


def test_chat_puts_the_passages_before_the_prompt_in_the_last_user_turn():
    messages = (Message(role="system", content="Be kind."), user("Hi"), assistant("Ho"), user("P"))
    (rendered,) = render_chat(Sample(messages=messages, context=CONTEXT, responses=("A",)), chat())
    assert rendered.text == (
        "<s><|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHo<|im_end|>\n"
        "<|im_start|>user\nIt is red. Very.\n\nIt is blue.\n\nP<|im_end|>\n"
        "<|im_start|>assistant\nA<|im_end|>\n"
    )
    assert parts(rendered) == ("P", "It is red. Very.\n\nIt is blue.", "A")


def test_a_response_is_found_where_it_was_put():
    """It also occurs in the prompt, in the template and twice in itself."""
    for response in ("user", "P", "a a", "<|im_end|>", "\n", "assistant\n") * 2:
        sample = Sample(prompt=f"P {response}", responses=(f"x{response}", f"{response}x"))
        for text, expected in zip(render_chat(sample, chat()), sample.responses, strict=True):
            assert parts(text) == (f"P {response}", "", expected)
            assert text.response.end == len(text.text) - len("<|im_end|>\n")


@pytest.mark.parametrize(
    ("response", "kept", "stripped"),
    [("A", "A", 0), (" \nA", "A", 2), ("A\n", "A", 0), (" A b ", "A b", 1)],
)
def test_white_space_that_a_template_strips_is_accounted_for(response, kept, stripped):
    sample = Sample(prompt=" P ", context=("C",), responses=(response,))
    (rendered,) = render_chat(sample, chat(STRIPPING_CHAT_TEMPLATE))
    assert parts(rendered) == (" P", "C", kept)
    assert rendered.stripped == stripped
    (bare,) = render_chat(
        Sample(prompt=" P ", responses=(response,)), chat(STRIPPING_CHAT_TEMPLATE)
    )
    assert parts(bare) == ("P", "", kept)


@pytest.mark.parametrize(
    ("template", "field"),
    [
        (CHAT_TEMPLATE.replace("message['content']", "message['content'] | upper"), "messages"),
        (
            CHAT_TEMPLATE.replace("message['content']", "message['content'].split('A')[0]"),
            "responses[0]",
        ),
        (
            CHAT_TEMPLATE.replace("message['content']", "message['content'] | replace('P', '')"),
            "prompt",
        ),
        ("{{ raise_exception('roles must alternate') }}", "messages"),
    ],
)
def test_what_a_template_rewrites_is_refused(template, field):
    with pytest.raises(InvalidRequest) as caught:
        render_chat(Sample(prompt="xP", responses=("xAx",)), chat(template))
    assert caught.value.field == field


def test_passages_need_a_turn_of_the_user():
    messages = (Message(role="system", content="Be kind."),)
    with pytest.raises(InvalidRequest, match="no message is the user's"):
        render_chat(Sample(messages=messages, context=("C",), responses=("A",)), chat())
    (rendered,) = render_chat(Sample(messages=messages, responses=("A",)), chat())
    assert parts(rendered) == ("Be kind.", "", "A")


def test_a_shorter_conversation_begins_with_the_user():
    system = Message(role="system", content="S")
    turns = user("1"), assistant("2"), user("3"), assistant("4"), user("5")
    with_system = Sample(messages=(system, *turns), responses=("A",))
    assert turn_starts(with_system) == [0, 3, 5]
    assert [from_turn(with_system, start).messages for start in (0, 3, 5)] == [
        (system, *turns),
        (system, *turns[2:]),
        (system, *turns[4:]),
    ]
    without = Sample(messages=turns[:3], responses=("A",))
    assert turn_starts(without) == [0, 2]
    assert [from_turn(without, start).messages for start in (0, 2)] == [turns[:3], turns[2:3]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"template": "pairs"}, "known are pair, evidence, evidence-2, chat, plain"),
        ({"response_pooling": "max"}, "known are first, mean, last"),
        ({"unit_pooling": "first"}, "known are mean, last"),
        ({"max_input_tokens": 0}, "at least 1"),
        ({"max_windows": 0}, "at least 1"),
        ({"segmenter": "spacy-3"}, "'spacy-3'; this version of tureen cuts by 'sentencex-1'"),
    ],
)
def test_a_spec_is_checked(wrong, message):
    right = {
        "template": "pair",
        "max_input_tokens": 256,
        "response_pooling": "first",
        "unit_pooling": "mean",
    }
    TextSpec(**right)
    with pytest.raises(ValueError, match=message):
        TextSpec(**(right | wrong))


def test_a_long_passage_is_cut_piece_by_piece_where_it_would_be_as_a_whole():
    passage = "One sentence of a long passage stands here. " * 1000
    sample = Sample(prompt="p", context=(passage,), responses=("r",))
    whole = [sentence.start for sentence in segment(passage.strip(), Granularity.SENTENCE)]
    assert context_sentences(sample, "pair") == whole


def test_a_passage_of_open_quotes_takes_no_minutes():
    sample = Sample(prompt="p", context=("“" * 500_000,), responses=("r",))
    starts = context_sentences(sample, "pair")
    assert starts == sorted(set(starts))
