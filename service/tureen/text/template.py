"""How a sample becomes text: the only place that knows separators.

pair (encoders): first text = prompt, newline, context; second text = the response.
evidence (encoders): first text = the response, second text = the prompt. The context is compared
    with the response, not read: see `tureen.text.evidence`.
evidence-2: the same, and numbers about each sub-sentence: see `tureen.text.unit_features`.
plain (decoders without a chat template): prompt, newline, context, newline, response.
chat (decoders with one): the tokenizer's own template; the passages stand before the prompt in the
    last user turn, blank lines between them.

In all but chat, messages become lines "role: content". Passages are stripped and blank ones left
out (they hold no evidence); prompt and response are never stripped by us.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, get_args

from tureen.contracts import Granularity, Message, Sample
from tureen.errors import InvalidRequest
from tureen.text.segments import SEGMENTER, Span, segment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Template = Literal["pair", "evidence", "evidence-2", "chat", "plain"]
ResponsePooling = Literal["first", "mean", "last"]
UnitPooling = Literal["mean", "last"]

_SEPARATOR: Final[dict[Template, str]] = {
    "pair": "\n",
    "evidence": "\n",
    "evidence-2": "\n",
    "plain": "\n",
    "chat": "\n\n",
}
_PIECE_CHARACTERS: Final = 8192  # of a passage, cut into sentences at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSpec:
    """How a model reads text; part of its manifest, under "text".

    max_input_tokens: of one window, special tokens included.
    max_windows: over the context; 1 means that the context must fit beside prompt and response. Of
        the templates that compare it, whose rows have no context in them, that many windows full of
        tokens are compared.
    response_pooling: what a RESPONSE unit pools: the first token of the row (CLS), the tokens of
        the response, or the last token of the row whatever it is (such as the end of turn that a
        template appends), where transformers' AutoModelForSequenceClassification reads a decoder.
    unit_pooling: what a sentence or sub-sentence pools: its tokens, or the last of them.
    segmenter: the rule the units were made with; any but this program's is refused.
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
                f"text.segmenter is {self.segmenter!r}; this version of tureen cuts by "
                f"{SEGMENTER!r} and units of another rule would shift every reward; install the "
                "version of tureen that made the model, or train its heads again."
            )

    @property
    def of_two_texts(self) -> bool:
        """Whether prompt and response are two texts, with what the tokenizer puts between them."""
        return self.template == "pair" or self.compares

    @property
    def compares(self) -> bool:
        """Whether the context is compared with the response, and the heads read the outcome."""
        return self.template in ("evidence", "evidence-2")

    @property
    def describes_units(self) -> bool:
        """Whether the heads read `tureen.text.unit_features` too."""
        return self.template == "evidence-2"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A text as the tokenizer gets it, and where its parts stand in it.

    prompt: what may be cut from its start. context: the joined passages. response: empty, at the
    end, where it is a text of its own. stripped: characters the template took from its start.
    doubled_bos: it opened with more than one beginning of sequence, of which one is left.
    """

    text: str
    prompt: Span
    context: Span
    response: Span
    stripped: int = 0
    doubled_bos: bool = False


def context_sentences(sample: Sample, template: Template) -> list[int]:
    """Where the sentences of the context start, in characters of the joined passages."""
    starts: list[int] = []
    offset = 0
    for passage in _passages(sample):
        starts += [offset + start for start in _sentence_starts(passage)]
        offset += len(passage) + len(_SEPARATOR[template])
    return starts


def _sentence_starts(passage: str) -> list[int]:
    """Found piece by piece: the splitter's time grows with the square of a run of open quotes."""
    starts: list[int] = []
    begin = 0
    while begin < len(passage):
        end = begin + _PIECE_CHARACTERS
        piece = segment(passage[begin:end], Granularity.SENTENCE)
        if end < len(passage) and len(piece) > 1:
            end = begin + piece.pop().start  # it may go on after the piece
        starts += [begin + sentence.start for sentence in piece]
        begin = end
    return starts


def turn_starts(sample: Sample) -> list[int]:
    """Messages that a shorter conversation can begin with: 0 (all of it), then each of the user."""
    opening = _opening(sample)
    return [
        index
        for index, message in enumerate(sample.messages or ())
        if index == 0 or (message.role == "user" and index > opening)
    ]


def from_turn(sample: Sample, start: int) -> Sample:
    """`sample` without the messages before `start`, except a system message that opens it."""
    messages = tuple(sample.messages or ())
    return replace(sample, messages=messages[: min(start, _opening(sample))] + messages[start:])


def _opening(sample: Sample) -> int:
    """How many messages set the stage before the first turn."""
    return int(bool(sample.messages) and sample.messages[0].role in ("system", "developer"))


def render_first(sample: Sample) -> Rendered:
    """The first text of a pair."""
    prompt, context = _prompt(sample), _context(sample, "pair")
    text = prompt + _SEPARATOR["pair"] + context if context else prompt
    end = len(text)
    return Rendered(text, Span(0, len(prompt)), Span(end - len(context), end), Span(end, end))


def render_evidence(sample: Sample) -> tuple[str, str]:
    """The prompt, and the context that responses are compared with."""
    return _prompt(sample), _context(sample, "evidence")


def render_plain(sample: Sample) -> list[Rendered]:
    """One text for each response."""
    separator = _SEPARATOR["plain"]
    prompt, context = _prompt(sample), _context(sample, "plain")
    before = prompt + separator + context if context else prompt
    start = len(before) + len(separator)
    return [
        Rendered(
            before + separator + response,
            prompt=Span(0, len(prompt)),
            context=Span(len(before) - len(context), len(before)),
            response=Span(start, start + len(response)),
        )
        for response in sample.responses
    ]


def render_chat(sample: Sample, tokenizer: PreTrainedTokenizerBase) -> list[Rendered]:
    """One text for each response: what `apply_chat_template` makes of the whole conversation.

    Where the parts stand is learnt by rendering the same conversation with markers in the places of
    the last user turn and of the response. What comes before the first marker and after the second
    frames the real text too, so a response is found exactly even if it also occurs in the prompt or
    the template strips its white space.

    Raises:
        InvalidRequest: the template refuses the messages, or rewrites the text of those places.
    """
    messages = list(sample.messages or [Message(role="user", content=sample.prompt or "")])
    context = _context(sample, "chat")
    users = [index for index, message in enumerate(messages) if message.role == "user"]
    if context and not users:
        raise InvalidRequest(
            "context is given but no message is the user's; passages are put into the last turn of "
            "the user; add one, or leave the context out.",
            field="messages",
        )
    slot = users[-1] if users else len(messages) - 1
    evidence = context + _SEPARATOR["chat"] if context else ""
    turn = evidence + messages[slot].content

    before, after = _frame(tokenizer, messages, slot)
    rendered = []
    for index, response in enumerate(sample.responses):
        text = _apply(tokenizer, _filled(messages, slot, turn, response))
        placed = next((form for form in _forms(turn) if text.startswith(before + form)), None)
        if placed is None:
            raise _rewritten("messages" if sample.messages else "prompt")
        found = next((form for form in _forms(response) if text.endswith(form + after)), None)
        turn_end = len(before) + len(placed)
        if found is None or len(text) - len(found) - len(after) < turn_end:
            raise _rewritten(f"responses[{index}]")
        response_end = len(text) - len(after)
        rendered.append(
            Rendered(
                text,
                prompt=Span(min(len(before) + len(evidence), turn_end), turn_end),
                context=Span(len(before), len(before) + len(context)),
                response=Span(response_end - len(found), response_end),
                stripped=response.index(found),
            )
        )
    return rendered


_TURN_MARKER = "TureenTurnSlot7f3a"
_RESPONSE_MARKER = "TureenResponseSlot7f3a"


def _frame(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], slot: int
) -> tuple[str, str]:
    """What the template writes before the turn and after the response."""
    text = _apply(tokenizer, _filled(messages, slot, _TURN_MARKER, _RESPONSE_MARKER))
    if text.count(_TURN_MARKER) != 1 or text.count(_RESPONSE_MARKER) != 1:
        raise _rewritten("messages")
    return text.split(_TURN_MARKER)[0], text.split(_RESPONSE_MARKER)[1]


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
            f"the model's chat template refuses the messages ({error}); it decides which roles may "
            "follow which; send messages that it takes.",
            field="messages",
        ) from error


def _forms(text: str) -> tuple[str, ...]:
    """`text` as a template may have stripped it."""
    return text, text.rstrip(), text.lstrip(), text.strip()


def _rewritten(field: str) -> InvalidRequest:
    return InvalidRequest(
        f"{field} is not found word for word in what the model's chat template makes of it; text "
        "that a template rewrites has no place to be scored at; remove the markup it reacts to.",
        field=field,
    )


def _prompt(sample: Sample) -> str:
    if sample.messages is None:
        return sample.prompt or ""
    return "\n".join(f"{message.role}: {message.content}" for message in sample.messages)


def _passages(sample: Sample) -> list[str]:
    return [stripped for passage in sample.context if (stripped := passage.strip())]


def _context(sample: Sample, template: Template) -> str:
    return _SEPARATOR[template].join(_passages(sample))
