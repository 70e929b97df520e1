"""Encoders over pico tokenizers, by the name of their tokenizer and template."""

from collections.abc import Callable
from typing import Any

import pico_tokenizers
import pytest

from tureen.text.encoding import TextEncoder
from tureen.text.template import TextSpec

PLACES: dict[str, tuple[Callable[[], Any], str]] = {
    "bert pair": (pico_tokenizers.bert_like, "pair"),
    "byte pair": (pico_tokenizers.byte_bpe, "pair"),
    "roberta pair": (pico_tokenizers.roberta_like, "pair"),
    "byte plain": (pico_tokenizers.byte_bpe, "plain"),
    "chat": (pico_tokenizers.chat, "chat"),
    "stripping chat": (
        lambda: pico_tokenizers.chat(pico_tokenizers.STRIPPING_CHAT_TEMPLATE),
        "chat",
    ),
}


def _spec(**fields: Any) -> TextSpec:
    defaults = {
        "template": "pair",
        "max_input_tokens": 256,
        "response_pooling": "mean",
        "unit_pooling": "mean",
    }
    return TextSpec(**(defaults | fields))


@pytest.fixture(scope="session")
def spec() -> Callable[..., TextSpec]:
    return _spec


@pytest.fixture(scope="session", params=PLACES)
def place(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def encoder() -> Callable[..., TextEncoder]:
    """encoder(place, **fields of TextSpec); one tokenizer a place."""
    tokenizers = {place: tokenizer() for place, (tokenizer, _) in PLACES.items()}

    def make(place: str, **fields: Any) -> TextEncoder:
        return TextEncoder(tokenizers[place], _spec(template=PLACES[place][1], **fields))

    return make
