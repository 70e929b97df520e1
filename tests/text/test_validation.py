"""Every rule has a field, a sentence in three parts, and figures."""

import pytest

from tureen.contracts import Message, Sample
from tureen.errors import InvalidRequest
from tureen.text.validation import validate

USER = Message(role="user", content="Who?")
ASSISTANT = Message(role="assistant", content="I.")


def sample(**fields) -> Sample:
    return Sample(**({"prompt": "Who?", "responses": ("Me.",)} | fields))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"context": ()},
        {"context": ("", "  ")},  # a blank passage holds no evidence, and is no error
        {"prompt": None, "messages": (USER,)},
        {"prompt": None, "messages": (Message(role="system", content=""), USER, ASSISTANT, USER)},
        {"responses": ("Me.", "You.", "e\u0301 👩\u200d👧 \U0010ffff")},
        {"offsets": (None,)},
        {"offsets": (((0, 0), (0, 2), (2, 2), (3, 3)),)},
        {"responses": ["Me."], "offsets": [[(0, 3)]]},  # lists, as protobuf gives them
    ],
)
def test_accepted(fields):
    validate(sample(**fields))


@pytest.mark.parametrize(
    ("fields", "field", "got", "limit"),
    [
        ({"prompt": None}, "prompt", "neither", "exactly one of prompt, messages"),
        ({"messages": (USER,)}, "prompt", "both", "exactly one of prompt, messages"),
        ({"responses": ()}, "responses", 0, 1),
        ({"responses": "Me."}, "responses", "string", "list of strings"),
        ({"context": "It was."}, "context", "string", "list of strings"),
        ({"responses": ("Me.", "")}, "responses[1]", "blank", "text"),
        ({"responses": ("\u3000\n", "Me.")}, "responses[0]", "blank", "text"),
        ({"prompt": " "}, "prompt", "blank", "text"),
        ({"responses": ("a\ud83d",)}, "responses[0]", "U+D83D", "valid Unicode"),
        ({"context": ("ok", "\udc00")}, "context[1]", "U+DC00", "valid Unicode"),
        ({"prompt": "a\0b"}, "prompt", "U+0000", "no U+0000"),
        ({"prompt": None, "messages": ()}, "messages", 0, 1),
        (
            {"prompt": None, "messages": (USER, Message(role=" ", content="x"))},
            "messages[1].role",
            "blank",
            "text",
        ),
        (
            {"prompt": None, "messages": (USER, Message(role="user", content="\0"))},
            "messages[1].content",
            "U+0000",
            "no U+0000",
        ),
        (
            {"prompt": None, "messages": (Message(role="user", content=" "),)},
            "messages",
            "blank",
            "text",
        ),
        (
            {"prompt": None, "messages": (USER, ASSISTANT)},
            "messages[1].role",
            "assistant",
            "not assistant",
        ),
        ({"offsets": ()}, "offsets", 0, 1),
        ({"offsets": (None, None)}, "offsets", 2, 1),
        ({"offsets": ((),)}, "offsets[0]", 0, 1),
        ({"offsets": (((0, 1), (1, 4)),)}, "offsets[0][1]", "[1, 4]", 3),
        ({"offsets": (((-1, 1),),)}, "offsets[0][0]", "[-1, 1]", 3),
        ({"offsets": (((2, 1),),)}, "offsets[0][0]", "[2, 1]", 3),
        ({"offsets": (((0, 2), (1, 3)),)}, "offsets[0][1]", 1, 2),
        ({"offsets": (((1, 2), (0, 1)),)}, "offsets[0][1]", 0, 2),
    ],
)
def test_refused(fields, field, got, limit):
    with pytest.raises(InvalidRequest) as caught:
        validate(sample(**fields))
    error = caught.value
    assert (error.field, error.got, error.limit) == (field, got, limit)
    given, _allowed, remedy = error.message.split("; ", 2)
    assert given.split(" ")[0].split(".")[0] in (field.split(".")[0], got)
    assert remedy.endswith(".")
    error.message.encode()  # can be sent, whatever the sample held
