"""Streaming JSON: what every reader of feedback stands on.

A file is JSON Lines (one object a line) or one JSON array, whose elements are the records; a `.json` file may be
either, whichever it begins as. Either may be gzipped (`.gz`). One record is in memory at a time. Whatever is wrong is
a `BadData` that begins with file:line, where the line is that of the record, or of the place in it where the JSON
breaks.
"""

from __future__ import annotations

import codecs
import gzip
import json
import math
import re
import zlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from tureen.errors import nearest
from tureen.text.segments import Span

SUFFIXES = (".jsonl.gz", ".jsonl", ".json.gz", ".json")
_CHUNK_BYTES = 1 << 16
_STRUCTURE = re.compile(r'["\\\[\]{},]')

ValueT = TypeVar("ValueT")


class BadData(ValueError):
    """A data file does not hold what its format says; the message begins with file:line."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}")
        self.path, self.line, self.problem = path, line, problem

    def __reduce__(self):
        return type(self), (self.path, self.line, self.problem)


def find(directory: Path, *stems: str) -> Path:
    """The first file of a directory that is called one of `stems`, with one of `SUFFIXES`.

    Raises:
        FileNotFoundError: none is there.
    """
    for stem in stems:
        for suffix in SUFFIXES:
            path = directory / f"{stem}{suffix}"
            if path.is_file():
                return path
    raise FileNotFoundError(
        f"{directory} holds no file {' or '.join(stems)} with any of {', '.join(SUFFIXES)}; "
        "give the directory that has it, or the file itself"
    )


def stem_of(path: Path) -> str:
    """The name of a file without what `SUFFIXES` add to it."""
    suffix = next((s for s in SUFFIXES if path.name.endswith(s)), path.suffix)
    return path.name.removesuffix(suffix)


class Fields:
    """Typed access to one record; whatever is wrong is said with the file and the line.

    index: records before this one in its file.
    """

    def __init__(
        self, record: dict[str, Any], path: Path, line: int, index: int, at: str = ""
    ) -> None:
        self.record, self.path, self.line, self.index, self.at = record, path, line, index, at

    def bad(self, problem: str) -> BadData:
        return BadData(self.path, self.line, self.at + problem)

    def get(self, name: str, kind: type[ValueT]) -> ValueT:
        if name not in self.record:
            raise self.bad(f"field {name!r} is missing")
        value = self.record[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.bad(f"{name!r} must be {kind.__name__}, got {type(value).__name__}")
        return value

    def optional(self, name: str, kind: type[ValueT]) -> ValueT | None:
        """None where the field is absent or null."""
        return None if self.record.get(name) is None else self.get(name, kind)

    def text(self, name: str) -> str:
        value = self.get(name, str)
        if not value.strip():
            raise self.bad(f"{name!r} is blank")
        return value

    def optional_text(self, name: str) -> str | None:
        return None if self.record.get(name) is None else self.text(name)

    def number(self, name: str) -> float:
        value = self.record.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        value = self.get(name, float)
        if not math.isfinite(value):
            raise self.bad(f"{name!r} must be a finite number, got {value}")
        return value

    def items(self, name: str, kind: type[ValueT]) -> list[ValueT]:
        """A list whose items are all of one kind."""
        values = self.get(name, list)
        for index, value in enumerate(values):
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise self.bad(
                    f"{name}[{index}] must be {kind.__name__}, got {type(value).__name__}"
                )
        return values

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings, none of them blank."""
        values = tuple(self.items(name, str))
        for index, value in enumerate(values):
            if not value.strip():
                raise self.bad(f"{name}[{index}] is blank")
        return values

    def objects(self, name: str) -> Iterator[Fields]:
        for index, value in enumerate(self.get(name, list)):
            at = f"{self.at}{name}[{index}]: "
            if not isinstance(value, dict):
                raise BadData(self.path, self.line, f"{at}expected an object, got {value!r}")
            yield Fields(value, self.path, self.line, self.index, at)

    def object(self, name: str) -> Fields:
        return Fields(self.get(name, dict), self.path, self.line, self.index, f"{self.at}{name}: ")

    def one_of(self, name: str, known: Iterable[str]) -> str:
        value = self.get(name, str)
        if value not in known:
            raise self.bad(f"{name!r} is {value!r}; known: {', '.join(sorted(known))}")
        return value

    def only(self, known: Collection[str]) -> None:
        """Refuses fields that are not among `known`, which a slip of the pen would make."""
        for name in self.record:
            if name not in known:
                raise self.bad(f"unknown field {name!r}{nearest(name, known)}")

    def span(self, mark: object, text: str, what: str) -> Span:
        """[start, end], the half-open range of characters of `text`, which is `what`."""
        match mark:
            case [int() as start, int() as end] if 0 <= start < end <= len(text):
                return Span(start, end)
            case [int() as start, int() as end]:
                raise self.bad(
                    f"span [{start}, {end}) does not lie in {what} of {len(text)} characters"
                )
            case _:
                raise self.bad(f"a span must be [start, end], two whole numbers, got {mark!r}")


class Seen:
    """The ids of one file so far: an id stands for one record."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lines: dict[str, int] = {}

    def add(self, value: str, fields: Fields) -> None:
        if value in self._lines:
            raise fields.bad(f"{self.name} {value!r} was already on line {self._lines[value]}")
        self._lines[value] = fields.line


def records(path: Path) -> Iterator[Fields]:
    """The records of a JSON Lines file, or of a `.json` file that holds one array or one object a line, one by one.

    Raises:
        BadData: anything but valid Unicode, valid JSON and objects; a file that breaks off; an empty one.
        OSError: the file cannot be read.
    """
    array = path.name.removesuffix(".gz").endswith(".json") and not _begins_with_object(path)
    index = -1
    for index, (line, text) in enumerate(_elements(path) if array else _lines(path)):
        yield Fields(_parsed(path, line, text), path, line, index)
    if index < 0:
        raise BadData(path, 1, "the file is empty; at least one record is needed")


def _parsed(path: Path, line: int, text: str) -> dict[str, Any]:
    try:
        record = json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        at = line + error.lineno - 1
        raise BadData(path, at, f"not JSON: {error.msg} at character {error.colno}") from None
    except ValueError as error:
        raise BadData(path, line, f"not JSON: {error}") from None
    except RecursionError:
        raise BadData(path, line, "nested too deeply to be a record") from None
    if not isinstance(record, dict):
        raise BadData(path, line, f"expected an object, got {type(record).__name__}")
    if "\\u" in text:
        _check_characters(path, line, record)
    return record


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number in JSON; write null where a value is unknown")


def _check_characters(path: Path, line: int, value: Any) -> None:
    """Escapes can spell what no text holds, and what the server would refuse."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            point = f"U+{ord(value[error.start]):04X}"
            raise BadData(path, line, f"a text holds the lone surrogate {point}") from None
        if "\0" in value:
            raise BadData(path, line, "a text holds U+0000")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_characters(path, line, key)
            _check_characters(path, line, item)
    elif isinstance(value, list):
        for item in value:
            _check_characters(path, line, item)


def _raw(path: Path, size: int = -1) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, unpacked, in pieces of at most `size` bytes; each with its number, from 1."""
    line = 1
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        while True:
            try:
                piece = file.readline(size)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise BadData(path, line, f"broken gzip data: {error}") from None
            if not piece:
                return
            yield line, piece
            line += piece.endswith(b"\n")


def _begins_with_object(path: Path) -> bool:
    """Whether a file is JSON Lines, whatever it is called."""
    _, first = next(_raw(path, _CHUNK_BYTES), (1, b""))
    return first.startswith(b"{")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    for line, raw in _raw(path):
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise BadData(path, line, f"not UTF-8: {error}") from None
        if not text.strip():
            raise BadData(path, line, "the line is blank; one record stands on each line")
        yield line, text


def _decoded(path: Path) -> Iterator[tuple[int, str]]:
    """Pieces of text, none of them longer than a line or `_CHUNK_BYTES`."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    try:
        for line, raw in _raw(path, _CHUNK_BYTES):
            yield line, decoder.decode(raw)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise BadData(path, line, f"not UTF-8: {error}") from None


def _elements(path: Path) -> Iterator[tuple[int, str]]:
    """The elements of one JSON array as text, each with the line it begins on.

    Only brackets, commas and quotes are looked at; whether an element is JSON is for the parser.
    """
    depth, skip, line = 0, 0, 1  # open brackets; characters after a backslash still to pass over
    in_string = closed = False
    element: list[str] = []
    begun, count = 1, 0  # line on which the element begins; elements so far
    for line, text in _decoded(path):
        done = 0  # characters of `text` that belong to elements already given
        if depth == 0 and text.strip() and (closed or not text.lstrip().startswith("[")):
            what = (
                "text after the end of the array"
                if closed
                else "expected an array, which begins with [, or one object a line from the first line on"
            )
            raise BadData(path, line, what)
        for mark in _STRUCTURE.finditer(text):
            sign = mark.group()
            if mark.start() < skip:
                continue
            if sign == "\\":
                skip = mark.end() + 1
            elif sign == '"':
                in_string = not in_string
            elif in_string or closed:
                continue
            elif sign in "[{":
                depth += 1
                if depth == 1:
                    done, begun = mark.end(), line
            else:
                closed = sign != "," and depth == 1
                if depth == 1:
                    element.append(text[done : mark.start()])
                    whole = "".join(element)
                    begun += whole[: len(whole) - len(whole.lstrip())].count("\n")
                    if whole.strip():
                        yield begun, whole.strip()
                        count += 1
                    elif sign == "," or count:
                        raise BadData(path, line, "not JSON: an element of the array is missing")
                    element, done, begun = [], mark.end(), line
                if sign != ",":
                    depth -= 1
        if closed and text[done:].strip():
            raise BadData(path, line, "text after the end of the array")
        element.append(text[done:])
        skip = max(0, skip - len(text))
    if depth:
        raise BadData(path, line, "the array is not closed: the file breaks off")
