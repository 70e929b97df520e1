"""The open inference protocol of KServe and Triton, in JSON: tensors of text in, a tensor of rewards out.

    input       datatype  shape          output   shape       client
    text        BYTES     [N]            score    [N]         KServe
    sentences   BYTES     [N] or [N, 1]  rewards  [N, 1]      NeMo-Aligner
    tokens      INT64     [N, T]         rewards  [N, 1]      NeMo-Aligner, with sequence_lengths

PyTriton's own client speaks Triton's extensions: binary tensors, which are refused with 400, and the
configuration of a model, which is not there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Literal, NotRequired

from fastapi import Request
from starlette.convertors import PathConvertor, register_url_convertor
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from tureen._version import __version__
from tureen.contracts import ModelInfo, Sample
from tureen.engine.scoring import Scoring
from tureen.errors import InvalidRequest, UnknownModel, quoted
from tureen.text.written import Split
from tureen.transports.compat.ask import Ask, Call, Scored
from tureen.transports.compat.bodies import OPEN, refuse
from tureen.transports.compat.door import Door, Route
from tureen.transports.compat.shapes import KSERVE
from tureen.transports.json_body import JsonBody

VERSION = "1"
_BINARY = "inference-header-content-length"
_EXTENSIONS = ("config", "stats", "trace", "logging", "load", "unload", "generate")
_LARGEST = 2**31 - 1  # of a size in a shape
_OUTPUT = {"text": "score", "sentences": "rewards", "tokens": "rewards"}


@dataclass(frozen=True, kw_only=True)
class InferInput:
    """A tensor; data may be flat, or nested as its shape."""

    __pydantic_config__ = OPEN
    name: str
    shape: tuple[int, ...]
    datatype: Literal["BYTES", "INT64", "INT32"]
    data: tuple[Any, ...]
    parameters: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class InferRequestedOutput:
    __pydantic_config__ = OPEN
    name: str
    parameters: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class InferBody:
    __pydantic_config__ = OPEN
    inputs: tuple[InferInput, ...]
    id: str | None = None
    outputs: tuple[InferRequestedOutput, ...] | None = None
    parameters: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InferOutput:
    name: str
    shape: list[int]
    datatype: Literal["FP32"] = "FP32"
    data: list[float]


class InferReply(TypedDict):
    """id: of the request, where it has one."""

    model_name: str
    model_version: str
    outputs: list[InferOutput]
    id: NotRequired[str]


_BODY = JsonBody(InferBody)


class _Name(PathConvertor):
    """Of a model, slashes and all; Starlette's own stops at the end of a line."""

    regex = "(?s:.*)"


def install(door: Door) -> None:
    register_url_convertor("name", _Name())
    example = {
        "inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["one", "two"]}]
    }
    infer = Route(
        parse=_infer,
        label="infer",
        errors=KSERVE,
        asks=InferBody,
        answers=InferReply,
        example=example,
        summary="KServe's inference: a reward for each text",
    )
    for version in ("/versions/{version}", ""):
        door.post(f"/v2/models/{{model:name}}{version}/infer", infer)
    door.get(
        "/v2", lambda *_: _SERVER, route="v2", errors=KSERVE, summary="KServe's server metadata"
    )
    for path in ("/versions/{version}/ready", "/ready", "/versions/{version}", ""):
        door.get(
            f"/v2/models/{{model:name}}{path}",
            partial(_ready if path.endswith("ready") else _metadata, door),
            route="v2_model",
            errors=KSERVE,
            summary="KServe's readiness of a model"
            if "ready" in path
            else "KServe's model metadata",
        )


_SERVER = {"name": "tureen", "version": __version__, "extensions": []}


def _infer(call: Call) -> Ask:
    _check_version(call.path)
    if _BINARY in call.headers:
        raise refuse(_BINARY, "tensors travel as JSON; send data in it (binary_data=False)")
    body = _BODY.parse(call.body)
    _refuse_binary(body)
    tensors = {one.name: one for one in body.inputs}
    names = [name for name in _OUTPUT if name in tensors]
    allowed = {*names, "sequence_lengths"} if names == ["tokens"] else {*names}
    if len(names) != 1 or len(tensors) != len(body.inputs) or not tensors.keys() <= allowed:
        given = ", ".join(quoted(one.name) for one in body.inputs[:5]) or "none"
        raise InvalidRequest(
            f"the inputs are {given}; send one of text, sentences, or tokens with "
            "sequence_lengths.",
            field="inputs",
        )
    (name,) = names
    output = _OUTPUT[name]
    for wanted in body.outputs or ():
        if wanted.name != output:
            raise InvalidRequest(
                f"output {quoted(wanted.name)} was asked for; of {name} there is {output}; ask for "
                "that, or leave outputs out.",
                field="outputs",
            )
    samples, splits = _rows(call, tensors[name], tensors.get("sequence_lengths"))

    def reply(scored: Scored) -> InferReply:
        count = len(scored.numbers)
        shape = [count] if output == "score" else [count, 1]
        made = InferReply(
            model_name=scored.model,
            model_version=VERSION,
            outputs=[InferOutput(name=output, shape=shape, data=scored.numbers)],
        )
        if body.id is not None:
            made["id"] = body.id
        return made

    return Ask(
        samples=samples,
        splits=splits,
        places=[f"inputs.{name}[{index}]" for index in range(len(samples))],
        model=call.path["model"],
        reply=reply,
    )


def _rows(
    call: Call, tensor: InferInput, lengths: InferInput | None
) -> tuple[list[Sample], list[Split]]:
    flat = _flat(tensor)
    if tensor.name != "tokens":
        if tensor.datatype != "BYTES" or not all(isinstance(one, str) for one in flat):
            raise _wrong(tensor, "datatype BYTES and strings in data")
        if len(tensor.shape) != 1 and tensor.shape[1:] != (1,):
            raise _wrong(tensor, "a shape of [N] or [N, 1]")
        return call.transcripts(flat, "all")
    if tensor.datatype == "BYTES" or len(tensor.shape) != 2 or lengths is None:
        raise _wrong(tensor, "INT64, a shape of [N, T], and sequence_lengths beside it")
    count, width = tensor.shape
    ends = _flat(lengths)
    whole = (*flat, *ends)
    if len(ends) != count or not all(type(one) is int and one >= 0 for one in whole):
        raise _wrong(lengths, f"{count} lengths, and ids, that are integers of at least 0")
    if any(end > width for end in ends):
        raise _wrong(lengths, f"lengths of {width} tokens at most")
    starts = range(0, count * width, width) if width else [0] * count
    rows = [tuple(flat[start : start + end]) for start, end in zip(starts, ends, strict=True)]
    return call.transcripts(rows, "none")


def _flat(tensor: InferInput) -> list[Any]:
    """The values in row order.

    Raises:
        InvalidRequest: they are not as many as the shape says, or in other rows.
    """
    if len(tensor.shape) > 2 or not all(0 <= size <= _LARGEST for size in tensor.shape):
        raise InvalidRequest(
            f"input {quoted(tensor.name)} has a shape that no input here has; it is [N], or [N, T].",
            field=tensor.name[:40],
        )
    flat: list[Any] = list(tensor.data)
    if any(isinstance(row, list) for row in flat):
        width = tensor.shape[1] if len(tensor.shape) == 2 else None
        if not all(isinstance(row, list) and len(row) == width for row in flat):
            raise _wrong(tensor, "data that is flat, or nested as the shape is")
        flat = list(chain.from_iterable(flat))
    if len(flat) != math.prod(tensor.shape):
        raise InvalidRequest(
            f"input {quoted(tensor.name)} has {len(flat)} values and the shape "
            f"{list(tensor.shape)}; make them agree.",
            field=tensor.name[:40],
            got=len(flat),
        )
    return flat


def _wrong(tensor: InferInput, wanted: str) -> InvalidRequest:
    return InvalidRequest(
        f"input {quoted(tensor.name)} is {tensor.datatype} of shape {list(tensor.shape)}; it "
        f"takes {wanted}.",
        field=tensor.name[:40],
    )


def _refuse_binary(body: InferBody) -> None:
    for holder in (body, *body.inputs, *(body.outputs or ())):
        for name, value in (holder.parameters or {}).items():
            if value not in (None, False):
                raise refuse(f"parameters.{name[:40]}", "tensors travel as JSON; leave it out")


def _check_version(path: dict[str, str]) -> None:
    version = path.get("version", VERSION)
    if version != VERSION:
        raise UnknownModel(
            f"version {quoted(version)} is not served; there is {VERSION}; name that, or none.",
            field="version",
            got=version[:40],
        )


def _named(door: Door, request: Request, scorer: Scoring) -> tuple[str, ModelInfo]:
    """The model of the path; where one is served, it has every name, unless names are strict."""
    _check_version(request.path_params)
    name: str = request.path_params["model"]
    before, slash, last = name.rpartition("/")
    if slash and last in _EXTENSIONS:
        raise UnknownModel(
            f"{last} of {quoted(before)} is an extension that is not offered; ask for the model or "
            "its readiness.",
            field="model",
        )
    is_name = door.strict_model or len(scorer.models().models) > 1
    return name, scorer.model(name if is_name else None)


def _ready(door: Door, request: Request, scorer: Scoring) -> dict[str, object]:
    name, _ = _named(door, request, scorer)
    return {"name": name, "ready": True}


def _metadata(door: Door, request: Request, scorer: Scoring) -> dict[str, object]:
    name, info = _named(door, request, scorer)
    return {
        "name": name,
        "versions": [VERSION],
        "platform": f"tureen_{info.backend}",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "score", "datatype": "FP32", "shape": [-1]}],
    }
