"""Ways to ask a model: from its directory, or through a running service; both give the same readings. And two rewards
that read nothing, to stand beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from tureen.client import GrpcRewardClient, RewardClient
from tureen.contracts import ErrorInfo, ModelInfo, Priority
from tureen.errors import TureenError, from_info
from tureen.model.checkpoint import load
from tureen.model.directory import find_model, open_model, reweighted
from tureen.model.manifest import HeadSpec, ModelError
from tureen.text.encoding import TextEncoder, Window
from tureen_training.data.items import Item, encode, run, tensors
from tureen_training.data.records import Example
from tureen_training.evaluation.readings import Outcome, Reading, member_head, readings_of

DEFAULT_MODEL = "grounded-qa"
TRIVIAL = ("length", "random")
"""Names of rewards that read nothing."""
CHUNK = 32
"""Examples encoded together: enough rows of like length to batch, few enough to show progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What figures need to know of a model.

    lineages: of its ingredients. thresholds_known: whether the thresholds of `heads` are the model's own.
    """

    model_id: str
    fingerprint: str
    heads: tuple[HeadSpec, ...]
    temperature: float
    lineages: tuple[Mapping[str, str], ...]
    thresholds_known: bool = True


class Scorer(Protocol):
    @property
    def model(self) -> Model: ...

    def score(
        self, examples: Sequence[Example], *, members: bool = False
    ) -> Iterator[tuple[int, Outcome]]:
        """(index, outcome) of every example, in any order.

        An example that cannot be scored has its error as its outcome. What would meet every example, or
        might pass (an overload, a deadline), is raised.

        Args:
            members: the reward of each member too; a model without members is its own single one.
        """
        ...

    def close(self) -> None: ...


class DirectoryScorer:
    """Loads a model, as `tureen serve` would find it, and scores here."""

    def __init__(
        self, model: str | Path, *, member: str = "", max_batch_tokens: int, device: str = "cpu"
    ) -> None:
        """
        Args:
            model: a directory, the name of one in TUREEN_MODELS or in a checkout's service/models, or a
                Hugging Face id.
            member: the ingredient of a soup that counts alone; empty is the soup.
            max_batch_tokens: of one forward pass.
        Raises:
            ModelError: there is none, or it cannot be loaded.
            TureenError: `model` is no soup, or has no such ingredient.
        """
        opened = open_model(find_model(model))
        if member:
            opened = reweighted(opened, {member: 1.0})
        loaded = load(opened, device=device)
        manifest = loaded.manifest
        self._encoder = TextEncoder.from_directory(loaded.tokenizer_directory, manifest.text)
        self._forward = forward_of(loaded.model, self._encoder)
        self._forward_all = forward_of(loaded.model, self._encoder, None)
        self._members = 0 if member else manifest.groups - 1
        self._max_batch_tokens = max_batch_tokens
        self.model = Model(
            model_id=f"{manifest.model_id}/{member}" if member else manifest.model_id,
            fingerprint=loaded.fingerprint,
            heads=manifest.heads,
            temperature=manifest.temperature,
            lineages=tuple(one.lineage for one in manifest.ingredients if one.coefficient),
        )

    def score(
        self, examples: Sequence[Example], *, members: bool = False
    ) -> Iterator[tuple[int, Outcome]]:
        heads = self.model.heads
        count = self._members if members else 0
        if members and not count:  # its own single member
            for place, outcome in self.score(examples):
                yield place, outcome if isinstance(outcome, ErrorInfo) else _own_member(outcome)
            return
        computed = [member_head(head, m) for m in range(count + 1) for head in heads]
        forward = self._forward_all if count else self._forward
        for start in range(0, len(examples), CHUNK):
            items: list[Item] = []
            places: list[int] = []
            for place, example in enumerate(examples[start : start + CHUNK], start):
                try:
                    items.append(encode(example, self._encoder, self.model.heads))
                    places.append(place)
                except TureenError as error:
                    yield place, error.info()
            values = run(items, computed, forward, self._max_batch_tokens)
            yield from zip(places, readings_of(items, values, heads, count), strict=True)

    def close(self) -> None:
        pass


class ServiceScorer:
    """Asks a running service, over HTTP where the address begins with http, else over gRPC."""

    def __init__(self, url: str, *, model: str | None = None, api_key: str | None = None) -> None:
        """
        Args:
            model: id of one of the service's models; None is its default.
        Raises:
            TureenError: no service there, no permission, or no such model.
        """
        client = RewardClient if url.startswith(("http://", "https://")) else GrpcRewardClient
        self._client = client(url, api_key=api_key, priority=Priority.BULK)
        try:
            info = self._client.model(model)
        except BaseException:
            self._client.close()
            raise
        thresholds = _thresholds(info)
        self.model = Model(
            model_id=info.id,
            fingerprint=info.fingerprint,
            heads=tuple(
                HeadSpec(
                    name=head.name,
                    granularity=head.granularity,
                    weight=head.weight,
                    calibration=head.calibration,
                    threshold=(thresholds or {}).get(head.name),
                )
                for head in info.heads
            ),
            temperature=info.temperature,
            lineages=tuple(ingredient.lineage for ingredient in info.ingredients),
            thresholds_known=thresholds is not None,
        )

    def score(
        self, examples: Sequence[Example], *, members: bool = False
    ) -> Iterator[tuple[int, Outcome]]:
        samples = (example.sample() for example in examples)
        for place, result in self._client.stream(
            samples, model=self.model.model_id, members=members
        ):
            if result.error is not None:
                yield place, _of_the_sample(result.error)
            else:
                yield place, tuple(map(Reading.of_score, result.scores or ()))

    def close(self) -> None:
        self._client.close()


class TrivialScorer:
    """A reward of the text alone, without any head: `length` in characters, or `random` in [0, 1).

    A random reward is a hash of the seed, the prompt and the response: the same again, whatever else is scored.
    """

    def __init__(self, name: str, seed: int) -> None:
        """
        Raises:
            ValueError: it is neither length nor random.
        """
        if name not in TRIVIAL:
            raise ValueError(f"trivial reward is {name!r}; known: {', '.join(TRIVIAL)}")
        self._seed = seed
        fingerprint = f"{name}:{seed}" if name == "random" else name
        self.model = Model(
            model_id=name, fingerprint=fingerprint, heads=(), temperature=1.0, lineages=()
        )

    def score(
        self, examples: Sequence[Example], *, members: bool = False
    ) -> Iterator[tuple[int, Outcome]]:
        for place, example in enumerate(examples):
            rewards = [self._reward(example, response) for response in example.responses]
            readings = tuple(Reading(reward=reward, heads={}) for reward in rewards)
            yield place, _own_member(readings) if members else readings

    def _reward(self, example: Example, response: str) -> float:
        if self.model.model_id == "length":
            return float(len(response))
        content = repr((self._seed, example.prompt, example.messages, example.context, response))
        digest = hashlib.sha256(content.encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48

    def close(self) -> None:
        pass


def open_scorer(
    model: str = "",
    *,
    member: str = "",
    url: str = "",
    api_key: str = "",
    max_batch_tokens: int,
    device: str = "cpu",
    seed: int = 0,
) -> Scorer:
    """A reward model by name, of a running service where there is a URL; the default model where neither is given.

    Args:
        model: also one of `TRIVIAL`, which has no `member`. seed: of the random reward.

    Raises:
        ValueError: a member of a reward that reads nothing.
    """
    if url:
        return ServiceScorer(url, model=model or None, api_key=api_key or None)
    if model in TRIVIAL:
        if member:
            raise ValueError(f"member is {member!r}, but {model} is no soup; leave it out")
        return TrivialScorer(model, seed)
    return DirectoryScorer(
        model or DEFAULT_MODEL, member=member, max_batch_tokens=max_batch_tokens, device=device
    )


def _own_member(readings: tuple[Reading, ...]) -> tuple[Reading, ...]:
    return tuple(replace(reading, members=(reading.reward,)) for reading in readings)


def _of_the_sample(error: ErrorInfo) -> ErrorInfo:
    if error.retryable:
        raise from_info(error)
    return error


def _thresholds(info: ModelInfo) -> dict[str, float | None] | None:
    """The thresholds of the served model, from its directory where that is at hand; else None.

    The wire does not carry them, because no score depends on them. A local model of that name with the
    fingerprint that the service gives is the same model.
    """
    try:
        opened = open_model(find_model(info.id))
    except ModelError:
        return None
    if opened.fingerprint != info.fingerprint:
        return None
    return {head.name: head.threshold for head in opened.manifest.heads}


def forward_of(
    model: nn.Module, encoder: TextEncoder, group: int | None = 0
) -> Callable[[list[Window]], Tensor]:
    """Windows -> (B, N, H) values of one group of heads, fp32 on the CPU, without gradients.

    Args:
        model: as `checkpoint.load` gives it.
        group: 0 is the soup, m its m-th member; None gives (B, N, G·H), the heads of each group after another.
    """
    pad_id = pad_id_of(encoder)
    device = next(model.parameters()).device

    def forward(windows: list[Window]) -> Tensor:
        with torch.inference_mode():
            values = model(**tensors(windows, pad_id, device))  # (B, N, G, H)
            return (values.flatten(2) if group is None else values[:, :, group]).cpu()

    return forward


def pad_id_of(encoder: TextEncoder) -> int:
    """Any id serves behind the attention mask; 0 where the tokenizer names none."""
    pad_id = encoder.tokenizer.pad_token_id
    return pad_id if isinstance(pad_id, int) else 0
