"""How a sample becomes text: the only place that knows separators.

pair (encoders): first text = prompt, newline, context; second text = the response.
plain (decoders without a chat template): prompt, newline, context, newline, response.
chat (decoders with one): the tokenizer's own template; the passages stand before the prompt in the last
    user turn, blank lines between them.

In pair and plain, messages become lines "role: content". Passages are stripped and blank ones left
out (they hold no evidence); prompt and response are never stripped by us.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

from tureen.contracts import Granularity, Message, Sample
from tureen.errors import InvalidRequest
from tureen.text.segments import SEGMENTER, Span, segment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Template = Literal["pair", "chat", "plain"]
ResponsePooling = Literal["first", "mean", "last"]
UnitPooling = Literal["mean", "last"]

_SEPARATOR: Final[dict[Template, str]] = {"pair": "\n", "plain": "\n", "chat": "\n\n"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSpec:
    """How a model reads text; part of its manifest, under "text".

    max_input_tokens: of one window, special tokens included.
    max_windows: over the context; 1 means that the context must fit beside prompt and response.
    response_pooling: what a RESPONSE unit pools: the first token of the row (CLS), the tokens of the
        response, or the last token of the row, whatever stands there (the end-of-turn a template
        appends included): where transformers' AutoModelForSequenceClassification reads a decoder.
    unit_pooling: what a sentence or sub-sentence pools: its tokens, or the last of them.
    segmenter: the rule the units were made with; another version than this program's is refused.
    """

    template: Template
    max_input_tokens: int
    max_windows: int = 1
    response_pooling: ResponsePooling
    unit_pooling: UnitPooling
    segmenter: str = SEGMENTER

    def __post_init__(self) -> None:
        for name, given, known in (
            ("template", self.template, get_args(Template)),
            ("response_pooling", self.response_pooling, get_args(ResponsePooling)),
            ("unit_pooling", self.unit_pooling, get_args(UnitPooling)),
        ):
            if given not in known:
                raise ValueError(
                    f"text.{name} is {given!r}; known are {', '.join(known)}; choose one of them."
                )
        for name, number in (
            ("max_input_tokens", self.max_input_tokens),
            ("max_windows", self.max_windows),
        ):
            if number < 1:
                raise ValueError(f"text.{name} is {number}; it must be at least 1; raise it.")
        if self.segmenter != SEGMENTER:
            raise ValueError(
                f"text.segmenter is {self.segmenter!r}; this version of tureen cuts by {SEGMENTER!r}; "
                "units of another rule would shift every reward: install the version of tureen that "
                "made the model, or train its heads again."
            )


@dataclass(frozen=True, slots=True)
class Rendered:
    """A text as the tokenizer gets it, and where its parts stand in it.

    prompt: what may be cut from its start. context: the passages with what separates them. response:
    empty at the end where the response is a text of its own. stripped: characters that the template
    took from the start of the response.
    """

    text: str
    prompt: Span
    context: Span
    response: Span
    stripped: int = 0


def passages(sample: Sample) -> list[str]:
    return [stripped for passage in sample.context if (stripped := passage.strip())]


def context_sentences(sample: Sample, template: Template) -> list[int]:
    """Where the sentences of the context start, in characters of the joined passages."""
    starts: list[int] = []
    offset = 0
    for passage in passages(sample):
        starts += [offset + sentence.start for sentence in segment(passage, Granularity.SENTENCE)]
        offset += len(passage) + len(_SEPARATOR[template])
    return starts


def render_first(sample: Sample, *, with_context: bool) -> Rendered:
    """The first text of a pair."""
    prompt, context = _prompt(sample), _joined(sample, "pair", with_context)
    text = prompt + _SEPARATOR["pair"] + context if context else prompt
    end = len(text)
    return Rendered(text, Span(0, len(prompt)), Span(end - len(context), end), Span(end, end))


def render_plain(sample: Sample, *, with_context: bool) -> list[Rendered]:
    """One text for each response."""
    separator = _SEPARATOR["plain"]
    prompt, context = _prompt(sample), _joined(sample, "plain", with_context)
    before = prompt + separator + context if context else prompt
    return [
        Rendered(
            before + separator + response,
            prompt=Span(0, len(prompt)),
            context=Span(len(before) - len(context), len(before)),
            response=Span(
                len(before) + len(separator), len(before) + len(separator) + len(response)
            ),
        )
        for response in sample.responses
    ]


def render_chat(
    sample: Sample, tokenizer: PreTrainedTokenizerBase, *, with_context: bool
) -> list[Rendered]:
    """One text for each response, what `tokenizer.apply_chat_template` makes of the whole conversation.

    The places of the parts come from rendering the same conversation with markers in the two slots:
    what stands before the first marker and after the second frames the real text, so a response that
    also occurs in the prompt, or whose white space the template strips, is still found exactly.

    Raises:
        InvalidRequest: the template refuses the messages, or rewrites the text in the slots.
    """
    messages = list(sample.messages or [Message(role="user", content=sample.prompt or "")])
    context = _joined(sample, "chat", with_context)
    users = [index for index, message in enumerate(messages) if message.role == "user"]
    if context and not users:
        raise InvalidRequest(
            "context is given but no message has the role 'user'; the passages are put into the last "
            "user turn; add one, or leave the context out.",
            field="messages",
        )
    slot = users[-1] if users else len(messages) - 1
    prompt = messages[slot].content
    turn = context + _SEPARATOR["chat"] + prompt if context else prompt

    before, between, after = _frame(tokenizer, messages, slot)
    rendered = []
    for index, response in enumerate(sample.responses):
        text = _apply(tokenizer, _filled(messages, slot, turn, response))
        found = next((v for v in _variants(response) if text.endswith(v + after)), None)
        placed = next((v for v in _variants(turn) if text.startswith(before + v)), None)
        if placed is None:
            raise _rewritten("messages" if sample.messages else "prompt")
        turn_end = len(before) + len(placed)
        if found is None or (start := len(text) - len(after) - len(found)) < turn_end:
            raise _rewritten(f"responses[{index}]")
        prompt_length = len(placed) - (len(context) + len(_SEPARATOR["chat"]) if context else 0)
        rendered.append(
            Rendered(
                text,
                prompt=Span(turn_end - prompt_length, turn_end),
                context=Span(len(before), len(before) + len(context)),
                response=Span(start, start + len(found)),
                stripped=0
                if response.startswith(found)
                else len(response) - len(response.lstrip()),
            )
        )
    return rendered


_TURN_MARKER = "TureenTurnSlot7f3a"
_RESPONSE_MARKER = "TureenResponseSlot7f3a"


def _frame(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], slot: int
) -> tuple[str, str, str]:
    """What the template writes before, between and after the turn and the response."""
    text = _apply(tokenizer, _filled(messages, slot, _TURN_MARKER, _RESPONSE_MARKER))
    if text.count(_TURN_MARKER) != 1 or text.count(_RESPONSE_MARKER) != 1:
        raise _rewritten("messages")
    before, rest = text.split(_TURN_MARKER)
    between, after = rest.split(_RESPONSE_MARKER)
    return before, between, after


def _filled(
    messages: Sequence[Message], slot: int, turn: str, response: str
) -> list[dict[str, str]]:
    filled = [{"role": message.role, "content": message.content} for message in messages]
    filled[slot]["content"] = turn
    return [*filled, {"role": "assistant", "content": response}]


def _apply(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> str:
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False))
    except TemplateError as error:
        raise InvalidRequest(
            f"the chat template of the model refuses the messages ({error}); it decides which roles "
            "may follow which; send messages that it takes.",
            field="messages",
        ) from error


def _variants(text: str) -> tuple[str, ...]:
    return text, text.rstrip(), text.lstrip(), text.strip()


def _rewritten(field: str) -> InvalidRequest:
    return InvalidRequest(
        f"{field} cannot be found in what the chat template of the model makes of it; a response is "
        "scored where it stands word for word; remove markup that the template rewrites.",
        field=field,
    )


def _prompt(sample: Sample) -> str:
    if sample.messages is None:
        return sample.prompt or ""
    return "\n".join(f"{message.role}: {message.content}" for message in sample.messages)


def _joined(sample: Sample, template: Template, with_context: bool) -> str:
    return _SEPARATOR[template].join(passages(sample)) if with_context else ""
