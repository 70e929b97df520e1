"""Questions, answers and errors of gRPC, alike for both kinds of client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tureen.client.flow import ANSWERS, Call, Operation
from tureen.client.surface import PROBE_TIMEOUT_S, Trust
from tureen.client.trace_context import trace_context
from tureen.contracts import ErrorInfo
from tureen.errors import (
    BackendFailure,
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    MissingExtra,
    PayloadTooLarge,
    ServiceUnreachable,
    TureenError,
    Unauthenticated,
    from_info,
)

_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),  # the server's max_body_bytes decides
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 60_000),  # a stream whose server vanished must not hang for ever
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),  # a restarted server is found by the next attempt
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.primary_user_agent", "tureen"),
)
# What a status means when it carries no error of Tureen; all others are failures of the backend.
_FOREIGN: dict[str, type[TureenError]] = {
    "UNAVAILABLE": ServiceUnreachable,
    "CANCELLED": ServiceUnreachable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "RESOURCE_EXHAUSTED": PayloadTooLarge,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": Forbidden,
    "INVALID_ARGUMENT": InvalidRequest,
    "UNIMPLEMENTED": InvalidRequest,
    "NOT_FOUND": InvalidRequest,
}


def _bytes(file: str | Path | None) -> bytes | None:
    return None if file is None else Path(file).read_bytes()


class Door:
    """What both kinds of client do alike: the channel's arguments, questions, answers, errors."""

    def __init__(self, address: str, headers: dict[str, str], trust: Trust) -> None:
        try:
            import grpc
            from google.rpc import status_pb2
            from grpc_health.v1 import health_pb2, health_pb2_grpc

            from tureen import wire
            from tureen.v1 import reward_pb2, reward_pb2_grpc
        except ImportError as error:
            raise MissingExtra("The gRPC client", "grpc") from error
        self.grpc, self.wire, self.pb = grpc, wire, reward_pb2
        self.health, self.health_stub = health_pb2, health_pb2_grpc.HealthStub
        self.status, self._stubs = status_pb2.Status, reward_pb2_grpc
        self.metadata = tuple(headers.items())
        scheme, separator, rest = address.partition("://")
        if separator and scheme not in ("grpc", "grpcs"):
            other = "; http:// is for RewardClient" if scheme in ("http", "https") else ""
            raise InvalidRequest(
                f"{address!r} is no address of a service over gRPC{other}; give one such as "
                "'localhost:8081', or 'grpcs://host:port' for TLS."
            )
        self.target, self.credentials = rest if separator else address, None
        trust.check(scheme == "grpcs", address, "a grpcs://")
        if scheme == "grpcs":
            roots, pair = trust.root_certificates, trust.client_certificate
            certificate, key = pair if pair is not None else (None, None)
            self.credentials = grpc.ssl_channel_credentials(*map(_bytes, (roots, key, certificate)))

    def channel(self, library: Any) -> Any:
        """library: grpc or grpc.aio."""
        if self.credentials is None:
            return library.insecure_channel(self.target, options=_CHANNEL_OPTIONS)
        return library.secure_channel(self.target, self.credentials, options=_CHANNEL_OPTIONS)

    def stub(self, channel: Any) -> Any:
        """The methods of both services."""
        reward = self._stubs.RewardServiceStub(channel)
        vars(reward).update(vars(self._stubs.SoupServiceStub(channel)))
        return reward

    def traced_metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes along with a question, the trace of whoever asks included."""
        return (*self.metadata, *trace_context().items())

    def question(self, stub: Any, call: Call) -> Any:
        """The call under way: its answer with grpc, an awaitable of it with grpc.aio."""
        match call.operation:
            case "score":
                method, message = stub.Score, self.wire.to_proto(call.payload)
            case "rank":
                method, message = stub.Rank, self.wire.to_proto(call.payload)
            case "models":
                method, message = stub.ListModels, self.pb.ListModelsRequest()
            case "model":
                method, message = stub.GetModel, self.pb.GetModelRequest(model=call.payload)
            case "soups":
                method, message = stub.ListSoups, self.pb.ListSoupsRequest(model=call.payload)
            case "create_soup":
                method, message = stub.CreateSoup, self.wire.to_proto(call.payload)
            case "activate_soup":
                request = self.pb.ActivateSoupRequest(**call.payload._asdict())
                method, message = stub.ActivateSoup, request
            case "shadow_soup":
                request = self.pb.ShadowSoupRequest(**call.payload._asdict())
                method, message = stub.ShadowSoup, request
            case "rollback_soup":
                request = self.pb.RollbackSoupRequest(**call.payload._asdict())
                method, message = stub.RollbackSoup, request
        return method(message, timeout=call.timeout_s, metadata=self.traced_metadata())

    def answer(self, operation: Operation, message: Any) -> Any:
        try:
            return self.wire.from_proto(ANSWERS[operation], message)
        except InvalidRequest as error:  # what is invalid here is the answer
            raise BackendFailure(
                f"{self.target} answered something else than the contract ({error})."
            ) from error

    def error(self, failure: Any) -> TureenError:
        """What a grpc.RpcError or AioRpcError means."""
        for key, value in failure.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                for detail in self.status.FromString(value).details:
                    info = self.pb.Error()
                    if detail.Unpack(info):
                        return from_info(self.wire.from_proto(ErrorInfo, info))
        status = failure.code().name
        message = f"{status}: {failure.details()}"
        if "Failed parsing HTTP/2" in message:
            message += f"; an HTTP port answers so, and RewardClient asks it: http://{self.target}"
        if status == "DEADLINE_EXCEEDED":
            message = f"No answer in time ({message}); raise timeout_s or send less at once."
        return _FOREIGN.get(status, BackendFailure)(message)

    def probe(self, channel: Any) -> Any:
        """The health check under way."""
        request = self.health.HealthCheckRequest()
        stub: Any = self.health_stub(channel)
        return stub.Check(request, timeout=PROBE_TIMEOUT_S, metadata=self.metadata)

    def is_well(self, answer: Any, ready: bool) -> bool:
        """Any answer shows that the process lives; only SERVING that it would score."""
        return not ready or answer.status == self.health.HealthCheckResponse.SERVING
