import pytest
from hypothesis import given
from hypothesis import strategies as st
from pico_tokenizers import byte_bpe, chat

from tureen.contracts import Segment
from tureen.text.alignment import token_rewards
from tureen.text.policy_tokens import Alignment, align, spread
from tureen_training.policies import as_sampled

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(
    str.strip
)


def test_words_keep_their_offsets_and_the_end_of_text_takes_the_last_reward():
    found = align([(0, 2), (2, 5), (5, 5)])
    assert found == Alignment(((0, 2), (2, 5)), (0, 2))
    assert spread(found, [1.0, 2.0], 3) == [1.0, 0.0, 2.0]


def test_tokens_of_one_character_are_one_and_the_last_of_them_is_paid():
    """Both ways that a tokenizer may speak of them: each the whole character, or none but the last."""
    assert align([(0, 1), (0, 1), (0, 1), (1, 2)]) == Alignment(((0, 1), (1, 2)), (2, 3))
    assert align([(0, 0), (0, 0), (0, 1), (1, 2)]) == Alignment(((0, 1), (1, 2)), (2, 3))
    assert align([(0, 1), (0, 2), (2, 3)]) == Alignment(((0, 2), (2, 3)), (1, 2))


def test_nothing_to_speak_of():
    assert align([(0, 0)]) == Alignment((), ())
    assert spread(Alignment((), ()), [], 1) == [0.0]


def test_two_segments_that_end_on_one_token_add_up():
    """The service puts both on the word; the word's token gets their sum and not the later of them."""
    alignment = align([(0, 3), (3, 9)])
    segments = [
        Segment(head="h", start=0, end=5, value=0, reward=0.25),
        Segment(head="h", start=5, end=9, value=0, reward=0.5),
        Segment(head="g", start=0, end=9, value=0, reward=-1.0),
    ]
    assert spread(alignment, token_rewards(segments, alignment.offsets), 2) == [0.0, -0.25]


def test_spans_that_go_back_are_refused():
    with pytest.raises(ValueError, match=r"token 1 stands for characters \[0, 1\)"):
        align([(2, 3), (0, 1)])
    with pytest.raises(ValueError, match="2 token rewards for 1 offsets"):
        spread(align([(0, 1)]), [1.0, 2.0], 1)


@given(TEXT, st.lists(st.floats(-10, 10), min_size=20, max_size=20), st.booleans(), st.booleans())
def test_nothing_is_lost_between_service_and_policy(
    text: str, amounts: list[float], ended: bool, claimed: bool
):
    """Any text in bytes, of either kind of span, with rewards on every character: the sum is kept to rounding."""
    tokenizer = byte_bpe()
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert isinstance(tokens, list)
    end = [tokenizer.eos_token_id] if ended else []
    sampled = as_sampled(tokenizer, [*tokens, *end])  # pyright: ignore[reportArgumentType]
    spans = list(sampled.offsets)
    if claimed:  # each token of a character claims the whole of it
        for i in reversed(range(len(spans) - 1)):
            if spans[i].start == spans[i].end < len(sampled.text) and i < len(tokens):
                spans[i] = spans[i + 1]
    alignment = align(spans)
    edges = [edge for offset in alignment.offsets for edge in offset]
    assert edges == sorted(edges)
    assert all(start < end for start, end in alignment.offsets)
    segments = [
        Segment(head="h", start=i, end=i + 1, value=0, reward=amount)
        for i, amount in zip(range(len(sampled.text)), amounts, strict=False)
    ]
    rewards = spread(alignment, token_rewards(segments, alignment.offsets), len(spans))
    assert sum(rewards) == pytest.approx(sum(segment.reward for segment in segments), abs=1e-9)


def test_the_tokens_of_a_chat_policy():
    tokenizer = chat()
    tokens = tokenizer("né!", add_special_tokens=False)["input_ids"]
    assert isinstance(tokens, list)
    sampled = as_sampled(tokenizer, [*tokens, tokenizer.eos_token_id])  # pyright: ignore[reportArgumentType]
    assert sampled.text == "né!"
    assert align(sampled.offsets) == Alignment(((0, 1), (1, 2), (2, 3)), (0, 2, 4))
