"""Query parameters: one that is misspelt, or is for another route, would ask for something in vain."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tureen.errors import InvalidRequest, nearest, quoted


def check_query(given: Iterable[str], known: Collection[str] = ()) -> None:
    """
    Raises:
        InvalidRequest: a name that is not known.
    """
    for name in given:
        if name not in known:
            rest = nearest(name, known) if known else "; leave it out."
            raise InvalidRequest(f"{quoted(name)} is not a query parameter here{rest}", field=name)
