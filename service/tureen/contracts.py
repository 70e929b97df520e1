"""The wire contract: what is asked and what is answered, the same in JSON, protobuf and Python.

These dataclasses are at once the client's types, the HTTP schema and the engine's vocabulary;
`wire` turns them into protobuf. They carry shape, not policy: limits are enforced where they are
configured.

Times are integers in nanoseconds. Spans are half-open ranges of code points of the response.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

# Read by pydantic where the server validates JSON; the client never imports pydantic.
_STRICT = {"extra": "forbid", "strict": True, "allow_inf_nan": False}

PENALTY_SEGMENT: Final = "penalty"
"""Name of the segment that carries the penalty of an aggregation; no head may bear it."""


class Aggregation(StrEnum):
    """How the members' rewards become one (Coste et al. 2023, arXiv:2310.02743)."""

    MEAN = "mean"
    WORST_CASE = "worst_case"
    UNCERTAINTY_WEIGHTED = "uncertainty_weighted"


class Truncate(StrEnum):
    """What may be dropped when a sample is too long. The response never is."""

    NEVER = "never"
    CONTEXT = "context"
    PROMPT = "prompt"


class Granularity(StrEnum):
    """How finely a head speaks."""

    RESPONSE = "response"
    SENTENCE = "sentence"
    SUB_SENTENCE = "sub_sentence"


class Redistribution(StrEnum):
    """How one value of the whole response was spread over its sentences (`model.redistribution`)."""

    ABLATION = "ablation"
    ATTENTION = "attention"


class SoupState(StrEnum):
    """Where a soup stands: one that is loaded or stored can be activated, a failed one cannot."""

    FORMING = "forming"
    FAILED = "failed"
    STORED = "stored"
    READY = "ready"
    SHADOW = "shadow"
    ACTIVE = "active"


class SoupAction(StrEnum):
    CREATE = "create"
    SHADOW = "shadow"
    UNSHADOW = "unshadow"
    ACTIVATE = "activate"
    ROLLBACK = "rollback"


class Priority(StrEnum):
    """The two lanes of the queue, header and metadata `x-priority`."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    __pydantic_config__ = _STRICT
    role: str
    content: str


@dataclass(frozen=True, kw_only=True)  # no slots: RankRequest inherits from two
class Sample:
    """One prompt with its evidence and the K responses to score.

    Exactly one of `prompt` and `messages` is given; `messages` end before the response. `offsets`
    holds, for each response, None or the caller's own token spans, ascending and disjoint; they ask
    for `token_rewards`.
    """

    __pydantic_config__ = _STRICT
    id: str | None = None
    prompt: str | None = None
    messages: tuple[Message, ...] | None = None
    context: tuple[str, ...] = ()
    responses: tuple[str, ...]
    offsets: tuple[tuple[tuple[int, int], ...] | None, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOptions:
    """How to score; the same for score and rank.

    heads: subset of heads to compute; None is all of them.
    weights: head -> weight of the aggregate, replacing the model's as a whole (a head left out
    weighs nothing).
    aggregation: over the members; `mean` is the soup itself, one forward pass.
    penalty: λ of `uncertainty_weighted`, >= 0; 0 is 0.
    uncertainty: compute the members and return their spread (the other aggregations imply it).
    segments: return segments. members: return each member's reward.
    """

    __pydantic_config__ = _STRICT
    heads: tuple[str, ...] | None = None
    weights: dict[str, float] | None = None
    aggregation: Aggregation = Aggregation.MEAN
    penalty: float = 0.5
    uncertainty: bool = False
    segments: bool = True
    members: bool = False
    truncate: Truncate = Truncate.NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest(ScoreOptions):
    __pydantic_config__ = _STRICT
    model: str | None = None
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRequest(ScoreOptions, Sample):
    """The fields of one sample beside the options of score."""

    __pydantic_config__ = _STRICT
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadScore:
    """What one head says of a response.

    value: raw logit, never squashed. calibrated: (value − mean) / std of the head's `Calibration`.
    std: population standard deviation of `calibrated` over the members, when they were computed.
    """

    value: float
    calibrated: float
    std: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A piece of the response, what one head says of it, and its share of the reward.

    `reward` of all segments of a response adds up to `Score.reward`. Segments of a head tile the
    response. For the segment named "penalty", which spans the response, `value` is the penalty and
    `reward` = −value.

    redistribution: how the head's value of the response was spread over its sentences; None (in
    JSON the field is absent) where the head itself gave the value.
    """

    head: str
    start: int
    end: int
    value: float
    reward: float
    redistribution: Redistribution | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertainty:
    """Spread of the members' rewards: population standard deviation, least, greatest, how many."""

    std: float
    low: float
    high: float
    members: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """reward = Σ_h weight_h · calibrated_h − penalty. Nothing else.

    members: each member's reward. token_rewards: one for each of the caller's offsets, adding up
    to reward. tokens: tokens the model read, all windows and special tokens counted, without the
    runs of an ablation.
    truncated_tokens: tokens dropped on request (`truncate`).
    """

    reward: float
    heads: dict[str, HeadScore]
    segments: tuple[Segment, ...] | None = None
    uncertainty: Uncertainty | None = None
    members: tuple[float, ...] | None = None
    token_rewards: tuple[float, ...] | None = None
    tokens: int
    truncated_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """An error as it travels; `errors` makes it an exception again."""

    code: str
    message: str
    field: str | None = None
    got: int | float | str | None = None
    limit: int | float | str | None = None
    retryable: bool = False
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleResult:
    """Either scores, one a response in their order, or an error."""

    id: str | None = None
    error: ErrorInfo | None = None
    scores: tuple[Score, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    tokenize_ns: int = 0
    queue_ns: int = 0
    forward_ns: int = 0
    total_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreResponse:
    """results: one a sample, in the order of the request. fingerprint: of the weights."""

    model: str
    fingerprint: str
    soup: str
    results: tuple[SampleResult, ...]
    timings: Timings = field(default_factory=Timings)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankResponse:
    """The responses to one prompt, compared.

    ranking: indices of the responses, best first (ties in the order given).
    win_probability: (K, K); [i][j] is σ((rewardᵢ − rewardⱼ) / temperature), ½ on the diagonal.
    """

    model: str
    fingerprint: str
    soup: str
    id: str | None = None
    ranking: tuple[int, ...]
    rewards: tuple[float, ...]
    win_probability: tuple[tuple[float, ...], ...]
    scores: tuple[Score, ...]
    timings: Timings = field(default_factory=Timings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """calibrated = (value − mean) / std, fitted on a reference set after the soup is made."""

    mean: float = 0.0
    std: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadInfo:
    """redistribution: how its values of the response are spread over sentences; None (in JSON the
    field is absent) where they are not."""

    name: str
    granularity: Granularity
    weight: float
    calibration: Calibration
    redistribution: Redistribution | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IngredientInfo:
    name: str
    coefficient: float
    fingerprint: str
    lineage: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the server takes.

    max_input_tokens: of one window. max_windows: windows over the context a response may need.
    max_batch_tokens, max_batch_requests: of one device batch, padding included.
    max_concurrent_requests: responses in flight. max_client_batch_size: responses in one request.
    max_body_bytes: of one request body or message, uncompressed.
    """

    max_input_tokens: int
    max_windows: int
    max_batch_tokens: int
    max_batch_requests: int
    max_concurrent_requests: int
    max_client_batch_size: int
    max_body_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    id: str
    fingerprint: str
    soup: str
    base: str
    backend: str
    dtype: str
    device: str
    members: int
    temperature: float
    heads: tuple[HeadInfo, ...]
    ingredients: tuple[IngredientInfo, ...]
    data_licences: tuple[str, ...]
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelList:
    default_model: str
    models: tuple[ModelInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSoupRequest:
    """coefficients: ingredient -> weight, ≥ 0, adding up to 1; one left out weighs nothing."""

    __pydantic_config__ = _STRICT
    model: str | None = None
    coefficients: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowReport:
    """What a shadow would have answered, beside what the active soup did.

    responses: compared so far; the figures are over the latest 2048, and None below 20. skipped:
    with heads, weights or an aggregation of their own, or while the shadow was behind.
    failed: that the shadow could not score. rank_correlation: Spearman's ρ of the two rewards.
    drift_psi: population stability index of the shadow's rewards against the active soup's.
    """

    responses: int
    skipped: int
    failed: int
    rank_correlation: float | None = None
    drift_psi: float | None = None
    mean_active: float | None = None
    mean_shadow: float | None = None
    largest_change: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SoupInfo:
    """One weighting of the ingredients. created_ns: of the clock that counts from 1970.

    trouble: why it failed. shadow: of the latest time it was one, while the server lives.
    """

    fingerprint: str
    soup: str
    state: SoupState
    coefficients: dict[str, float]
    created_ns: int
    trouble: str | None = None
    shadow: ShadowReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SoupEvent:
    """by: name of the admin key."""

    action: SoupAction
    fingerprint: str
    time_ns: int
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SoupList:
    """active: fingerprint that answers. previous: that `rollback` returns to, if there is one."""

    model: str
    active: str
    previous: str | None = None
    soups: tuple[SoupInfo, ...]
    history: tuple[SoupEvent, ...]
