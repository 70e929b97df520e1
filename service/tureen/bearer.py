"""What a key may look like, for servers that hold keys and for clients that send them."""

from __future__ import annotations


def usable(key: str) -> str:
    """The key without white space around it: files end in a newline, headers cannot carry one.

    Raises:
        ValueError: it could not be sent in a header. The message never repeats the key.
    """
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("an unusable key: keys are printable ASCII without spaces")
    return key
