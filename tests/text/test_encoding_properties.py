"""What holds for any text, tokenizer, template and limit."""

from itertools import pairwise

import numpy as np
import pico_tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tureen.commands.plain_evidence import plain_types, plain_unit_features
from tureen.contracts import Granularity, Sample, Truncate
from tureen.errors import InputTooLong, InvalidRequest
from tureen.text.encoding import EncodedResponse, TextEncoder
from tureen.text.template import TextSpec

RESPONSE, SENTENCE, SUB_SENTENCE = Granularity
ALL = frozenset(Granularity)

# fmt: off
PIECES = [
    "it is. ", "no! ", "he, ", "\n\n", "\r\n", "é", "e\u0301", "😀", "👩\u200d👧", "。", "\x07", "\u200b",
    "[SEP]", "<s>", "<|im_end|>", " ",
]
# fmt: on
SOUP = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
    st.lists(st.sampled_from(PIECES), max_size=25).map("".join),
)


@given(
    prompt=SOUP.filter(str.strip),
    context=st.lists(SOUP, max_size=3),
    responses=st.lists(SOUP.filter(str.strip), min_size=1, max_size=2),
    truncate=st.sampled_from(Truncate),
    limit=st.integers(40, 200),
)
@settings(deadline=None, max_examples=100)
def test_what_always_holds(encoder, place, prompt, context, responses, truncate, limit):
    pico = encoder(place, max_input_tokens=limit, max_windows=4)
    sample = Sample(prompt=prompt, context=tuple(context), responses=tuple(responses))
    try:
        encoded = pico.encode(sample, ALL, truncate)
    except InputTooLong as error:
        assert isinstance(error.got, int)  # noqa: PT017 either outcome is right, if consistent
        assert isinstance(error.limit, int)  # noqa: PT017
        assert error.got > error.limit  # noqa: PT017
        return
    except InvalidRequest as error:
        assert place == "bert pair"  # alone has characters without tokens
        assert error.got == 0  # noqa: PT017
        return
    assert len(encoded) == len(responses)
    for one, response in zip(encoded, responses, strict=True):
        _check(one, response, limit)
        if truncate is Truncate.NEVER:
            assert one.truncated_tokens == 0
    reversed_sample = Sample(
        prompt=prompt, context=tuple(context), responses=tuple(responses[::-1])
    )
    for one, other in zip(encoded, pico.encode(reversed_sample, ALL, truncate)[::-1], strict=True):
        assert one.units == other.units
        for window, twin in zip(one.windows, other.windows, strict=True):
            assert window.input_ids.tolist() == twin.input_ids.tolist()


@given(
    prompt=SOUP.filter(str.strip),
    context=st.lists(SOUP, max_size=3),
    responses=st.lists(SOUP.filter(str.strip), min_size=1, max_size=2),
)
@example(prompt="0", context=["\x08"], responses=["0"])  # a context without a token
@settings(deadline=None, max_examples=100)
def test_comparing_templates_are_their_definitions(prompt, context, responses):
    """Types and numbers of units against `tureen doctor`'s plain reading, token by token."""
    pico = TextEncoder(
        pico_tokenizers.bert_like(),
        TextSpec(
            template="evidence-2",
            max_input_tokens=400,
            response_pooling="mean",
            unit_pooling="mean",
        ),
    )
    sample = Sample(prompt=prompt, context=tuple(context), responses=tuple(responses))
    try:
        encoded = pico.encode(sample, ALL)
    except InvalidRequest as error:
        assert error.got == 0  # noqa: PT017 alone it has characters without tokens
        return
    for one, response in zip(encoded, responses, strict=True):
        _check(one, response, 400)
        (window,) = one.windows
        start, end = window.spans[0]
        types = plain_types(pico.tokenizer, sample, response)
        assert window.token_type_ids[start:end].tolist() == types
        assert window.unit_features is not None
        counted = plain_unit_features(pico.tokenizer, sample, response)
        described = [unit.granularity is SUB_SENTENCE for unit in one.units]
        np.testing.assert_allclose(window.unit_features[described], counted, atol=1e-6)
        assert not window.unit_features[np.logical_not(described)].any()


def _check(encoded: EncodedResponse, response: str, limit: int) -> None:
    assert encoded.units[0] == (RESPONSE, 0, len(response))
    assert 1 <= len(encoded.windows) <= 4
    assert encoded.tokens == sum(len(window.input_ids) for window in encoded.windows)
    read = []
    for window in encoded.windows:
        spans, tokens = window.spans, len(window.input_ids)
        assert tokens <= limit
        assert {array.dtype for array in (window.input_ids, window.token_type_ids, spans)} == {
            np.dtype(np.int32)
        }
        assert len(window.token_type_ids) == tokens
        assert spans.shape == (len(encoded.units), 2)
        assert (spans[:, 0] < spans[:, 1]).all()
        (start, end) = spans[0]  # mean pooling: the tokens of the response
        assert 0 <= start < end <= tokens
        read.append(window.input_ids[start:end].tolist())
        for granularity in (SENTENCE, SUB_SENTENCE):
            of = [i for i, unit in enumerate(encoded.units) if unit.granularity is granularity]
            chars = [(encoded.units[i].start, encoded.units[i].end) for i in of]
            for ranges, whole in ((chars, (0, len(response))), (spans[of].tolist(), (start, end))):
                assert (ranges[0][0], ranges[-1][1]) == whole
                assert all(before[1] == after[0] for before, after in pairwise(ranges))
                assert all(first < last for first, last in ranges)
    assert all(ids == read[0] for ids in read)
