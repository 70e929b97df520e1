"""What can be set about a server: flags, environment, YAML file, help and docs from one class.

A flag wins over the environment, the environment over the file, the file over the default. A key
that does not exist is an error that offers the nearest one, in the file and among the flags. In the
environment only a near miss is refused: a cluster puts names such as TUREEN_SERVICE_HOST there.
"""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, YamlConfigSettingsSource

from tureen.engine.limits import EngineLimits
from tureen.engine.loading import BackendName, DtypeName, RedistributionName
from tureen.errors import nearest
from tureen.model.directory import MODELS_VARIABLE
from tureen.usage import Parser, UsageError, device_name

PREFIX = "TUREEN_"
C = TypeVar("C", bound="Config")
_ENGINE = EngineLimits()  # its defaults are the defaults here
TYPO = 0.8  # difflib ratio from which an unknown environment name counts as a misspelt one


class Config(BaseSettings):
    """The settings of `tureen serve`. Descriptions are the help text."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    model: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], NoDecode] = Field(
        default=("grounded-qa",),
        min_length=1,
        description="Model to serve: a directory, the name of one in TUREEN_MODELS or in a checkout's "
        "service/models, or a Hugging Face id. "
        "'stub' answers with deterministic numbers and needs no weights. Repeatable, in the environment "
        "separated by commas; the first one answers requests that name none.",
    )
    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on. 0.0.0.0 lets other machines in, and then wants a key.",
    )
    http_port: int = Field(
        default=8080, ge=0, le=65535, description="Port of HTTP; 0 takes a free one."
    )
    grpc_port: int = Field(
        default=8081, ge=0, le=65535, description="Port of gRPC; 0 takes a free one."
    )
    front_ends: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Processes that do HTTP, gRPC, JSON and keys for the one that has the device; 0: "
        "one process does all. For machines with cores to spare.",
    )
    backend: BackendName = Field(
        default="auto",
        description="What runs the model. auto: where an up-to-date export lies beside the weights "
        "(`tureen export`) the faster of ONNX Runtime and torch, by a short measurement at start; "
        "else torch.",
    )
    device: Annotated[str, AfterValidator(device_name)] = Field(
        default="auto", description="cpu, cuda[:N], tensorrt[:N]; auto: a GPU where there is one."
    )
    dtype: DtypeName = Field(
        default="float32",
        description="Number format of the forward pass; the short ones make rewards less exact. "
        "bfloat16: about twice as fast on a GPU or a CPU with AVX512-BF16. float16: for a GPU. int8: "
        "on a CPU, wants `tureen export --dtype int8`, which says what it costs.",
    )
    redistribute: RedistributionName = Field(
        default="none",
        description="Spread what heads say of the whole response over its sentences, each marked "
        "as such; rewards stay the same. ablation: the model runs once more for each sentence (32 "
        "at most). attention: by the attention of the last layer, at hardly a cost; only for a third "
        "party's classifier in torch.",
    )
    api_key: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        repr=False,
        description="Key that scoring asks for, sent as 'Authorization: Bearer KEY'. Repeatable; "
        "several in the environment are separated by commas.",
    )
    api_key_file: Path | None = Field(
        default=None,
        description="File of keys or their hashes, one a line, with name, quota and priority of each "
        "(`tureen keys`); '#' starts a comment. Joins --api-key.",
    )
    admin_key: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        repr=False,
        description="Key that changing soups asks for; it may score too. Repeatable as --api-key.",
    )
    admin_key_file: Path | None = Field(
        default=None, description="File of admin keys, as --api-key-file. Joins --admin-key."
    )
    insecure_no_key: bool = Field(
        default=False,
        description="Listen beyond this machine although no key is set: anybody may score.",
    )
    tls_certificate_file: Path | None = Field(
        default=None,
        description="PEM certificate of this server: both doors speak TLS. Wants --tls-key-file.",
    )
    tls_key_file: Path | None = Field(
        default=None, description="PEM private key of the certificate, without a password."
    )
    tls_client_ca_file: Path | None = Field(
        default=None,
        description="PEM certificate that signs those of clients: who has none is not let in "
        "(mutual TLS). Keys are asked for beside it.",
    )
    strict_model: bool = Field(
        default=False,
        description="Answer 404 to clients of other systems that name a model which is not served, "
        "as with several models always. Otherwise the only one answers them, and the name is counted.",
    )
    upstream_activation: Annotated[tuple[Literal["vllm", "tei", "infinity"], ...], NoDecode] = (
        Field(
            default=(),
            description="Routes of another system that apply its own default, a sigmoid, where a "
            "request says nothing of an activation; left out, rewards are raw there. Repeatable.",
        )
    )
    state_dir: Path | None = Field(
        default=None,
        description="Directory that remembers soups made live and which is active. Left out: tureen "
        "under $XDG_STATE_HOME or ~/.local/state.",
    )
    max_loaded_soups: int = Field(
        default=3,
        ge=2,
        description="Soups of a model in memory at once: the active one, and those that can take "
        "its place without being formed anew.",
    )
    max_batch_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Tokens of one device batch, padding included: the throttle of memory. Left "
        "out, what suits the device.",
    )
    max_batch_requests: int | None = Field(
        default=None,
        ge=1,
        description="Rows of one device batch; a response takes one row a window. Left out, what "
        "suits the device.",
    )
    max_concurrent_requests: int = Field(
        default=_ENGINE.max_concurrent_requests,
        ge=1,
        description="Responses in flight, queue included. More are refused at once with 503 and "
        "the time to wait.",
    )
    max_client_batch_size: int = Field(
        default=_ENGINE.max_client_batch_size,
        ge=1,
        description="Responses in one request. The client splits larger batches by itself.",
    )
    max_body_bytes: int = Field(
        default=_ENGINE.max_body_bytes,
        ge=1024,
        description="Size of one request body or message, uncompressed.",
    )
    max_connections: int = Field(
        default=4096,
        ge=1,
        description="Connections at once at each door; more are refused: over HTTP with 503, over gRPC "
        "they are closed.",
    )
    receive_timeout_s: float = Field(
        default=60.0,
        gt=0,
        allow_inf_nan=False,
        description="Time for the head of an HTTP request to come, and again for its body.",
    )
    drain_s: float = Field(
        default=30.0,
        ge=0,
        allow_inf_nan=False,
        description="After SIGTERM: seconds to finish admitted work before the process leaves.",
    )
    cache_bytes: int = Field(
        default=_ENGINE.cache_bytes,
        ge=0,
        description="Memory for scores already computed, keyed by weights and content. 0: none.",
    )
    tokenization_workers: int = Field(
        default=_ENGINE.tokenization_workers,
        ge=1,
        description="Threads that turn text into tokens; they compete with a model on the CPU.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="How much is written to stderr. No level writes user text."
    )
    log_format: Literal["text", "json"] = Field(
        default="text",
        description="json: an object a line, with the request id, the client and the trace id.",
    )
    log_requests: bool = Field(
        default=False,
        description="Write a line for every request: door, route, code, time, request id, client.",
    )
    log_text: bool = Field(
        default=False,
        description="The same with prompts, contexts and responses in it: nothing else writes them.",
    )
    otlp_endpoint: str | None = Field(
        default=None,
        pattern="^https?://",
        description="OpenTelemetry collector that takes traces, such as http://localhost:4317. "
        "Wants the extra `otel`; the OTEL_ variables say the rest, and name it as well.",
    )

    @field_validator("model", "api_key", "admin_key", "upstream_activation", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(parts) if isinstance(parts, (list, tuple)) else parts

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        self.limits()
        return self

    @property
    def models(self) -> str:
        """What is to be served, in words."""
        return ", ".join(self.model)

    def limits(self) -> EngineLimits:
        return EngineLimits(
            max_batch_tokens=self.max_batch_tokens,
            max_batch_requests=self.max_batch_requests,
            max_concurrent_requests=self.max_concurrent_requests,
            max_client_batch_size=self.max_client_batch_size,
            max_body_bytes=self.max_body_bytes,
            cache_bytes=self.cache_bytes,
            tokenization_workers=self.tokenization_workers,
        )


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def parser(
    kind: type[Config] = Config,
    prog: str = "tureen serve",
    description: str = "Serve a reward model over HTTP and gRPC.",
) -> Parser:
    """The command line of `tureen serve`, or of another command, made from the fields."""
    made = Parser(
        prog=prog,
        description=description,
        epilog="Every flag is also an environment variable (--http-port is TUREEN_HTTP_PORT) and a "
        "key of the --config file (http_port). Flags win over the environment, the environment "
        "over the file.",
        argument_default=argparse.SUPPRESS,
    )
    made.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="YAML file with any of these settings (env TUREEN_CONFIG)",
    )
    for name, field in kind.model_fields.items():
        text = f"{field.description} [{_default(field.default)}]".replace("%", "%%")
        of: Any = field.annotation
        if name == "model":
            made.add_argument("model", nargs="*", action="extend", metavar="MODEL", help=text)
            made.add_argument(
                flag(name),
                action="append",
                metavar="MODEL",
                help="The same, as a flag. Repeatable.",
            )
        elif of is bool:
            made.add_argument(flag(name), action=argparse.BooleanOptionalAction, help=text)
        elif get_origin(of) is tuple and (choices := _choices(get_args(of)[0])):
            made.add_argument(flag(name), action="append", choices=choices, help=text)
        elif get_origin(of) is tuple:
            made.add_argument(flag(name), action="append", metavar="KEY", help=text)
        elif choices := _choices(of):
            made.add_argument(flag(name), choices=choices, help=text)
        else:
            made.add_argument(flag(name), metavar=_metavar(name, of), help=text)
    return made


def load(argv: Sequence[str]) -> Config:
    """The settings from a command line, the environment and the file either of them names.

    Raises UsageError with one line; argparse itself exits for --help.
    """
    return made_of(Config, vars(parser().read(argv)))


def made_of(kind: type[C], given: Mapping[str, Any]) -> C:
    """The settings from what was given, the environment and the file that `config` of either names.

    Raises UsageError with one line.
    """
    named = given.get("config", os.environ.get(PREFIX + "CONFIG"))
    file = Path(named) if named else None
    _refuse_typos(os.environ, kind)
    try:
        settings = _with_file(kind, file)(**{k: v for k, v in given.items() if k != "config"})
    except ValidationError as error:
        raise UsageError(_sentence(error, file, kind)) from None
    return kind.model_construct(**{name: getattr(settings, name) for name in kind.model_fields})


def flag_table(kind: type[Config] = Config, beyond: type[BaseSettings] = BaseSettings) -> str:
    """The settings as a Markdown table, for the docs: those that `beyond` does not have."""
    rows = ["| flag | environment | default | meaning |", "|---|---|---|---|"]
    for name, field in kind.model_fields.items():
        if name in beyond.model_fields:
            continue
        shown = "`MODEL`, `--model`" if name == "model" else f"`{flag(name)}`"
        default = _default(field.default).removeprefix("default ")
        rows.append(f"| {shown} | `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def _with_file(kind: type[C], file: Path | None) -> type[C]:
    if file is None:
        return kind
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"config file {file} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"config file {file} is not YAML: {reason}") from None
    if content is not None and not isinstance(content, dict):
        raise UsageError(
            f"config file {file} must hold 'key: value' lines, such as 'http_port: 8080'"
        )

    class FromFile(kind):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings
        ):
            return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, file)

    return FromFile  # pyright: ignore[reportReturnType] it is a subclass of kind


def _refuse_typos(environ: Mapping[str, str], kind: type[Config]) -> None:
    known = [PREFIX + name.upper() for name in (*kind.model_fields, "config")]
    for name in environ:
        if not name.startswith(PREFIX) or name in known or name == MODELS_VARIABLE:
            continue
        bare = [candidate.removeprefix(PREFIX) for candidate in known]
        close = difflib.get_close_matches(name.removeprefix(PREFIX), bare, n=1, cutoff=TYPO)
        if close:
            raise UsageError(f"{name} is not a setting; did you mean {PREFIX}{close[0]}?")


def _sentence(error: ValidationError, file: Path | None, kind: type[Config]) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        where = f" in {file}" if file is not None else ""
        return f"{name!r}{where} is not a setting{nearest(name, kind.model_fields)}"
    reason = first["msg"].removeprefix("Value error, ")
    if name not in kind.model_fields:
        return reason
    if name in ("api_key", "admin_key"):
        return f"{name} cannot be used: {reason}"  # never the key itself
    reason = reason[0].lower() + reason[1:]
    return f"{name} is {first['input']!r}: {reason} ({flag(name)}, {PREFIX}{name.upper()})"


def _default(value: object) -> str:
    if value is None or value == ():
        return "default none"
    if isinstance(value, tuple):
        return f"default {', '.join(value)}"
    if isinstance(value, bool):
        return f"default {'yes' if value else 'no'}"
    return f"default {value:g}" if isinstance(value, float) else f"default {value}"


def _choices(kind: Any) -> tuple[str, ...]:
    return get_args(kind) if get_origin(kind) is Literal else ()


def _metavar(name: str, kind: Any) -> str:
    if int in (kind, *get_args(kind)) or kind is float:
        return "N"
    return "FILE" if name.endswith("_file") else name.upper()
