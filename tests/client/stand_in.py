"""A stand-in for a Tureen service, over both doors and without an engine.

It rewards a response with its length in characters, so expectations can be counted by hand, and does
what its `script` says first: each entry answers one scoring call with an error, or changes the soup.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx2
from google.protobuf import any_pb2
from google.rpc import status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from model_info import limits, model_info

from tureen import wire
from tureen.client import codec
from tureen.contracts import (
    Calibration,
    Granularity,
    HeadInfo,
    HeadScore,
    IngredientInfo,
    Limits,
    ModelInfo,
    ModelList,
    RankRequest,
    RankResponse,
    Sample,
    SampleResult,
    Score,
    ScoreRequest,
    ScoreResponse,
    Timings,
)
from tureen.errors import InvalidRequest, TureenError, UnknownModel, failure_of
from tureen.v1 import reward_pb2_grpc

Script = list[TureenError | Callable[["StandIn"], None]]


@dataclass
class StandIn:
    limits: Limits = field(default_factory=limits)
    fingerprint: str = "sha256:one"
    script: Script = field(default_factory=list)
    ready: bool = True
    second_first: bool = False  # a stream answers its second question before its first
    calls: list[Any] = field(default_factory=list)  # contracts, in the order of arrival
    headers: list[Mapping[str, Any]] = field(default_factory=list)
    deadlines_s: list[float | None] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def sizes(self) -> list[list[int]]:
        """Responses of each sample of each scoring call."""
        return [[len(s.responses) for s in call.samples] for call in self.scored()]

    def scored(self) -> list[ScoreRequest]:
        return [call for call in self.calls if isinstance(call, ScoreRequest)]

    def heard(self, call: Any, headers: Mapping[str, Any], deadline_s: float | None) -> None:
        with self.lock:
            self.calls.append(call)
            self.headers.append(headers)
            self.deadlines_s.append(deadline_s)

    def models(self) -> ModelList:
        return ModelList(default_model="length", models=(self.info(),))

    def info(self) -> ModelInfo:
        head = HeadInfo(
            name="length",
            granularity=Granularity.RESPONSE,
            weight=1.0,
            calibration=Calibration(mean=0.0, std=1.0),
        )
        ingredient = IngredientInfo(
            name="a", coefficient=0.5, fingerprint="sha256:a", lineage={"seed": "1"}
        )
        return model_info(
            id="length",
            fingerprint=self.fingerprint,
            soup="uniform:2",
            members=2,
            heads=(head,),
            ingredients=(ingredient,),
            data_licences=("CC0-1.0",),
            limits=self.limits,
        )

    def score(self, request: ScoreRequest) -> ScoreResponse:
        """Samples with an empty response fail alone; the request fails as the door rule says."""
        with self.lock:
            step = self.script.pop(0) if self.script else None
        if isinstance(step, TureenError):
            raise step
        if step is not None:
            step(self)
        if request.model not in (None, "length"):
            raise UnknownModel(f"model is {request.model!r}; known: length.", field="model")
        response = ScoreResponse(
            model="length",
            fingerprint=self.fingerprint,
            soup="uniform:2",
            results=tuple(map(self.result, request.samples)),
            timings=Timings(tokenize_ns=1, queue_ns=2, forward_ns=3, total_ns=7),
        )
        return response

    def result(self, sample: Sample) -> SampleResult:
        for index, response in enumerate(sample.responses):
            if not response:
                error = InvalidRequest(
                    f"responses[{index}] is empty.", field=f"responses[{index}]", got=0, limit=1
                )
                return SampleResult(id=sample.id, error=error.info())
        scores = tuple(
            Score(
                reward=float(len(response)),
                heads={"length": HeadScore(value=len(response), calibrated=len(response))},
                tokens=len(response),
            )
            for response in sample.responses
        )
        return SampleResult(id=sample.id, scores=scores)

    def rank(self, request: RankRequest) -> RankResponse:
        result = self.result(Sample(responses=request.responses))
        assert result.scores is not None
        rewards = tuple(score.reward for score in result.scores)
        count = len(rewards)
        return RankResponse(
            model="length",
            fingerprint=self.fingerprint,
            soup="uniform:2",
            id=request.id,
            ranking=tuple(sorted(range(count), key=lambda i: -rewards[i])),
            rewards=rewards,
            win_probability=tuple((0.5,) * count for _ in range(count)),
            scores=result.scores,
        )

    # --- HTTP ---

    def http(self) -> httpx2.MockTransport:
        return httpx2.MockTransport(self._http)

    def _http(self, request: httpx2.Request) -> httpx2.Response:
        path, body = request.url.path, request.content
        millis = request.headers.get("x-request-timeout-ms")
        deadline_s = None if millis is None else int(millis) / 1000
        headers = {name: request.headers.get(name, "") for name in ("authorization", "x-priority")}
        try:
            if path == "/v1/score":
                contract = codec.read(ScoreRequest, body)
                self.heard(contract, headers, deadline_s)
                response = self.score(contract)
                if failure := failure_of(response):
                    raise failure
                return _json(response)
            if path == "/v1/rank":
                contract = codec.read(RankRequest, body)
                self.heard(contract, headers, deadline_s)
                return _json(self.rank(contract))
            self.heard(path, headers, deadline_s)
            if path == "/v1/models":
                return _json(self.models())
            if path == "/v1/models/length":
                return _json(self.info())
            if path in ("/healthz", "/readyz"):
                return httpx2.Response(200 if path == "/healthz" or self.ready else 503)
        except TureenError as error:
            return httpx2.Response(
                error.http_status, content=b'{"error":' + codec.write(error.info()) + b"}"
            )
        return httpx2.Response(404, json={"detail": "Not Found"})

    # --- gRPC ---

    def grpc(self, address: str = "127.0.0.1:0") -> GrpcStandIn:
        return GrpcStandIn(self, address)


def _json(contract: object) -> httpx2.Response:
    """With a field that a newer server might add."""
    document = json.loads(codec.write(contract))
    document["from_the_future"] = {"any": ["thing"]}
    return httpx2.Response(200, json=document)


class GrpcStandIn(reward_pb2_grpc.RewardServiceServicer, health.HealthServicer):
    def __init__(
        self, service: StandIn, address: str, credentials: grpc.ServerCredentials | None = None
    ) -> None:
        health.HealthServicer.__init__(self)
        self._service = service
        self.server = grpc.server(
            ThreadPoolExecutor(40),
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 2**24)],
        )
        reward_pb2_grpc.add_RewardServiceServicer_to_server(self, self.server)
        health_pb2_grpc.add_HealthServicer_to_server(self, self.server)
        port = (
            self.server.add_insecure_port(address)
            if credentials is None
            else self.server.add_secure_port(address, credentials)
        )
        self.address = f"{address.rpartition(':')[0]}:{port}"
        self.server.start()

    def stop(self) -> None:
        self.server.stop(grace=None).wait()

    def __enter__(self) -> GrpcStandIn:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _heard(self, call: Any, context: grpc.ServicerContext) -> None:
        headers = dict(context.invocation_metadata())
        self._service.heard(call, headers, context.time_remaining())

    def Check(self, request: Any, context: Any) -> Any:
        status = health_pb2.HealthCheckResponse
        return status(status=status.SERVING if self._service.ready else status.NOT_SERVING)

    def Score(self, request: Any, context: Any) -> Any:
        contract = wire.from_proto(ScoreRequest, request)
        self._heard(contract, context)
        try:
            response = self._service.score(contract)
            if failure := failure_of(response):
                raise failure
            return wire.to_proto(response)
        except TureenError as error:
            _abort(context, error)

    def ScoreStream(self, request_iterator: Iterator[Any], context: Any) -> Iterator[Any]:
        held: Any = None
        for request in request_iterator:
            contract = wire.from_proto(ScoreRequest, request)
            self._heard(contract, context)
            try:
                response = self._service.score(contract)
            except TureenError as error:
                results = tuple(SampleResult(id=s.id, error=error.info()) for s in contract.samples)
                response = ScoreResponse(model="", fingerprint="", soup="", results=results)
            if self._service.second_first and held is None:
                held = wire.to_proto(response)
                continue
            yield wire.to_proto(response)
            if self._service.second_first:
                yield held
                self._service.second_first = False

    def Rank(self, request: Any, context: Any) -> Any:
        contract = wire.from_proto(RankRequest, request)
        self._heard(contract, context)
        return wire.to_proto(self._service.rank(contract))

    def GetModel(self, request: Any, context: Any) -> Any:
        self._heard("/v1/models/length", context)
        return wire.to_proto(self._service.info())

    def ListModels(self, request: Any, context: Any) -> Any:
        self._heard("/v1/models", context)
        return wire.to_proto(self._service.models())


def _abort(context: Any, error: TureenError) -> None:
    detail = any_pb2.Any()
    detail.Pack(wire.to_proto(error.info()))
    code = grpc.StatusCode[error.grpc_status]
    status = status_pb2.Status(code=code.value[0], message=error.message, details=[detail])
    context.abort_with_status(rpc_status.to_status(status))
