import pytest

from tureen.contracts import Message
from tureen_training.data.dialogue import split_turns

SPEAKERS = {"Human": "user", "Assistant": "assistant"}


def user(content: str) -> Message:
    return Message(role="user", content=content)


def assistant(content: str) -> Message:
    return Message(role="assistant", content=content)


@pytest.mark.parametrize(
    ("transcript", "before", "messages"),
    [
        ("Human: Hi.\nAssistant: Hello.", "", (user("Hi."), assistant("Hello."))),
        ("Rules.\n\nHuman: a\n\nb\n", "Rules.\n", (user("a\n\nb"),)),
        # a name within a line is no turn
        ("Human: said Assistant: no", "", (user("said Assistant: no"),)),
        # turns of one speaker in a row are one; a blank turn is none
        ("Human: a\nHuman: b", "", (user("a\n\nb"),)),
        ("Human: a\nAssistant: \nHuman: b", "", (user("a\n\nb"),)),
        ("nobody speaks", "nobody speaks", ()),
    ],
)
def test_turns(transcript, before, messages):
    assert split_turns(transcript, SPEAKERS) == (before, messages)
