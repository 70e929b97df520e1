from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Aggregation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AGGREGATION_UNSPECIFIED: _ClassVar[Aggregation]
    AGGREGATION_MEAN: _ClassVar[Aggregation]
    AGGREGATION_WORST_CASE: _ClassVar[Aggregation]
    AGGREGATION_UNCERTAINTY_WEIGHTED: _ClassVar[Aggregation]

class Truncate(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRUNCATE_UNSPECIFIED: _ClassVar[Truncate]
    TRUNCATE_NEVER: _ClassVar[Truncate]
    TRUNCATE_CONTEXT: _ClassVar[Truncate]
    TRUNCATE_PROMPT: _ClassVar[Truncate]
AGGREGATION_UNSPECIFIED: Aggregation
AGGREGATION_MEAN: Aggregation
AGGREGATION_WORST_CASE: Aggregation
AGGREGATION_UNCERTAINTY_WEIGHTED: Aggregation
TRUNCATE_UNSPECIFIED: Truncate
TRUNCATE_NEVER: Truncate
TRUNCATE_CONTEXT: Truncate
TRUNCATE_PROMPT: Truncate

class Message(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("start", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class TokenOffsets(_message.Message):
    __slots__ = ("spans",)
    SPANS_FIELD_NUMBER: _ClassVar[int]
    spans: _containers.RepeatedCompositeFieldContainer[Span]
    def __init__(self, spans: _Optional[_Iterable[_Union[Span, _Mapping]]] = ...) -> None: ...

class Sample(_message.Message):
    __slots__ = ("id", "prompt", "messages", "context", "responses", "offsets")
    ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    id: str
    prompt: str
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    context: _containers.RepeatedScalarFieldContainer[str]
    responses: _containers.RepeatedScalarFieldContainer[str]
    offsets: _containers.RepeatedCompositeFieldContainer[TokenOffsets]
    def __init__(self, id: _Optional[str] = ..., prompt: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ..., context: _Optional[_Iterable[str]] = ..., responses: _Optional[_Iterable[str]] = ..., offsets: _Optional[_Iterable[_Union[TokenOffsets, _Mapping]]] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("model", "samples", "heads", "weights", "aggregation", "penalty", "uncertainty", "segments", "members", "truncate")
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    AGGREGATION_FIELD_NUMBER: _ClassVar[int]
    PENALTY_FIELD_NUMBER: _ClassVar[int]
    UNCERTAINTY_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATE_FIELD_NUMBER: _ClassVar[int]
    model: str
    samples: _containers.RepeatedCompositeFieldContainer[Sample]
    heads: _containers.RepeatedScalarFieldContainer[str]
    weights: _containers.ScalarMap[str, float]
    aggregation: Aggregation
    penalty: float
    uncertainty: bool
    segments: bool
    members: bool
    truncate: Truncate
    def __init__(self, model: _Optional[str] = ..., samples: _Optional[_Iterable[_Union[Sample, _Mapping]]] = ..., heads: _Optional[_Iterable[str]] = ..., weights: _Optional[_Mapping[str, float]] = ..., aggregation: _Optional[_Union[Aggregation, str]] = ..., penalty: _Optional[float] = ..., uncertainty: bool = ..., segments: bool = ..., members: bool = ..., truncate: _Optional[_Union[Truncate, str]] = ...) -> None: ...

class HeadScore(_message.Message):
    __slots__ = ("value", "calibrated", "std")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    value: float
    calibrated: float
    std: float
    def __init__(self, value: _Optional[float] = ..., calibrated: _Optional[float] = ..., std: _Optional[float] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("head", "start", "end", "value", "reward", "redistribution")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    REDISTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    head: str
    start: int
    end: int
    value: float
    reward: float
    redistribution: str
    def __init__(self, head: _Optional[str] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., value: _Optional[float] = ..., reward: _Optional[float] = ..., redistribution: _Optional[str] = ...) -> None: ...

class Uncertainty(_message.Message):
    __slots__ = ("std", "low", "high", "members")
    STD_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    std: float
    low: float
    high: float
    members: int
    def __init__(self, std: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., members: _Optional[int] = ...) -> None: ...

class Score(_message.Message):
    __slots__ = ("reward", "heads", "segments", "uncertainty", "members", "token_rewards", "tokens", "truncated_tokens")
    class HeadsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: HeadScore
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[HeadScore, _Mapping]] = ...) -> None: ...
    REWARD_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    UNCERTAINTY_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_REWARDS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    reward: float
    heads: _containers.MessageMap[str, HeadScore]
    segments: _containers.RepeatedCompositeFieldContainer[Segment]
    uncertainty: Uncertainty
    members: _containers.RepeatedScalarFieldContainer[float]
    token_rewards: _containers.RepeatedScalarFieldContainer[float]
    tokens: int
    truncated_tokens: int
    def __init__(self, reward: _Optional[float] = ..., heads: _Optional[_Mapping[str, HeadScore]] = ..., segments: _Optional[_Iterable[_Union[Segment, _Mapping]]] = ..., uncertainty: _Optional[_Union[Uncertainty, _Mapping]] = ..., members: _Optional[_Iterable[float]] = ..., token_rewards: _Optional[_Iterable[float]] = ..., tokens: _Optional[int] = ..., truncated_tokens: _Optional[int] = ...) -> None: ...

class Scalar(_message.Message):
    __slots__ = ("integer", "number", "text")
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    integer: int
    number: float
    text: str
    def __init__(self, integer: _Optional[int] = ..., number: _Optional[float] = ..., text: _Optional[str] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "field", "got", "limit", "retryable", "retry_after_s")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    GOT_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    field: str
    got: Scalar
    limit: Scalar
    retryable: bool
    retry_after_s: float
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., field: _Optional[str] = ..., got: _Optional[_Union[Scalar, _Mapping]] = ..., limit: _Optional[_Union[Scalar, _Mapping]] = ..., retryable: bool = ..., retry_after_s: _Optional[float] = ...) -> None: ...

class SampleResult(_message.Message):
    __slots__ = ("id", "error", "scores")
    ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    id: str
    error: Error
    scores: _containers.RepeatedCompositeFieldContainer[Score]
    def __init__(self, id: _Optional[str] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., scores: _Optional[_Iterable[_Union[Score, _Mapping]]] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("tokenize_ns", "queue_ns", "forward_ns", "total_ns")
    TOKENIZE_NS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_NS_FIELD_NUMBER: _ClassVar[int]
    FORWARD_NS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_NS_FIELD_NUMBER: _ClassVar[int]
    tokenize_ns: int
    queue_ns: int
    forward_ns: int
    total_ns: int
    def __init__(self, tokenize_ns: _Optional[int] = ..., queue_ns: _Optional[int] = ..., forward_ns: _Optional[int] = ..., total_ns: _Optional[int] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("model", "fingerprint", "soup", "results", "timings")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    SOUP_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    model: str
    fingerprint: str
    soup: str
    results: _containers.RepeatedCompositeFieldContainer[SampleResult]
    timings: Timings
    def __init__(self, model: _Optional[str] = ..., fingerprint: _Optional[str] = ..., soup: _Optional[str] = ..., results: _Optional[_Iterable[_Union[SampleResult, _Mapping]]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ...) -> None: ...

class RankRequest(_message.Message):
    __slots__ = ("model", "id", "prompt", "messages", "context", "responses", "offsets", "heads", "weights", "aggregation", "penalty", "uncertainty", "segments", "members", "truncate")
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    AGGREGATION_FIELD_NUMBER: _ClassVar[int]
    PENALTY_FIELD_NUMBER: _ClassVar[int]
    UNCERTAINTY_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATE_FIELD_NUMBER: _ClassVar[int]
    model: str
    id: str
    prompt: str
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    context: _containers.RepeatedScalarFieldContainer[str]
    responses: _containers.RepeatedScalarFieldContainer[str]
    offsets: _containers.RepeatedCompositeFieldContainer[TokenOffsets]
    heads: _containers.RepeatedScalarFieldContainer[str]
    weights: _containers.ScalarMap[str, float]
    aggregation: Aggregation
    penalty: float
    uncertainty: bool
    segments: bool
    members: bool
    truncate: Truncate
    def __init__(self, model: _Optional[str] = ..., id: _Optional[str] = ..., prompt: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ..., context: _Optional[_Iterable[str]] = ..., responses: _Optional[_Iterable[str]] = ..., offsets: _Optional[_Iterable[_Union[TokenOffsets, _Mapping]]] = ..., heads: _Optional[_Iterable[str]] = ..., weights: _Optional[_Mapping[str, float]] = ..., aggregation: _Optional[_Union[Aggregation, str]] = ..., penalty: _Optional[float] = ..., uncertainty: bool = ..., segments: bool = ..., members: bool = ..., truncate: _Optional[_Union[Truncate, str]] = ...) -> None: ...

class Probabilities(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class RankResponse(_message.Message):
    __slots__ = ("model", "fingerprint", "soup", "id", "ranking", "rewards", "win_probability", "scores", "timings")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    SOUP_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    RANKING_FIELD_NUMBER: _ClassVar[int]
    REWARDS_FIELD_NUMBER: _ClassVar[int]
    WIN_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    model: str
    fingerprint: str
    soup: str
    id: str
    ranking: _containers.RepeatedScalarFieldContainer[int]
    rewards: _containers.RepeatedScalarFieldContainer[float]
    win_probability: _containers.RepeatedCompositeFieldContainer[Probabilities]
    scores: _containers.RepeatedCompositeFieldContainer[Score]
    timings: Timings
    def __init__(self, model: _Optional[str] = ..., fingerprint: _Optional[str] = ..., soup: _Optional[str] = ..., id: _Optional[str] = ..., ranking: _Optional[_Iterable[int]] = ..., rewards: _Optional[_Iterable[float]] = ..., win_probability: _Optional[_Iterable[_Union[Probabilities, _Mapping]]] = ..., scores: _Optional[_Iterable[_Union[Score, _Mapping]]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Calibration(_message.Message):
    __slots__ = ("mean", "std")
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    mean: float
    std: float
    def __init__(self, mean: _Optional[float] = ..., std: _Optional[float] = ...) -> None: ...

class HeadInfo(_message.Message):
    __slots__ = ("name", "granularity", "weight", "calibration", "redistribution")
    NAME_FIELD_NUMBER: _ClassVar[int]
    GRANULARITY_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    REDISTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    name: str
    granularity: str
    weight: float
    calibration: Calibration
    redistribution: str
    def __init__(self, name: _Optional[str] = ..., granularity: _Optional[str] = ..., weight: _Optional[float] = ..., calibration: _Optional[_Union[Calibration, _Mapping]] = ..., redistribution: _Optional[str] = ...) -> None: ...

class IngredientInfo(_message.Message):
    __slots__ = ("name", "coefficient", "fingerprint", "lineage")
    class LineageEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    COEFFICIENT_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    name: str
    coefficient: float
    fingerprint: str
    lineage: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., coefficient: _Optional[float] = ..., fingerprint: _Optional[str] = ..., lineage: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_input_tokens", "max_windows", "max_batch_tokens", "max_batch_requests", "max_concurrent_requests", "max_client_batch_size", "max_body_bytes")
    MAX_INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_WINDOWS_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENT_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    MAX_CLIENT_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_BODY_BYTES_FIELD_NUMBER: _ClassVar[int]
    max_input_tokens: int
    max_windows: int
    max_batch_tokens: int
    max_batch_requests: int
    max_concurrent_requests: int
    max_client_batch_size: int
    max_body_bytes: int
    def __init__(self, max_input_tokens: _Optional[int] = ..., max_windows: _Optional[int] = ..., max_batch_tokens: _Optional[int] = ..., max_batch_requests: _Optional[int] = ..., max_concurrent_requests: _Optional[int] = ..., max_client_batch_size: _Optional[int] = ..., max_body_bytes: _Optional[int] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("id", "fingerprint", "soup", "base", "backend", "dtype", "device", "members", "temperature", "heads", "ingredients", "data_licences", "limits")
    ID_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    SOUP_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    INGREDIENTS_FIELD_NUMBER: _ClassVar[int]
    DATA_LICENCES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    id: str
    fingerprint: str
    soup: str
    base: str
    backend: str
    dtype: str
    device: str
    members: int
    temperature: float
    heads: _containers.RepeatedCompositeFieldContainer[HeadInfo]
    ingredients: _containers.RepeatedCompositeFieldContainer[IngredientInfo]
    data_licences: _containers.RepeatedScalarFieldContainer[str]
    limits: Limits
    def __init__(self, id: _Optional[str] = ..., fingerprint: _Optional[str] = ..., soup: _Optional[str] = ..., base: _Optional[str] = ..., backend: _Optional[str] = ..., dtype: _Optional[str] = ..., device: _Optional[str] = ..., members: _Optional[int] = ..., temperature: _Optional[float] = ..., heads: _Optional[_Iterable[_Union[HeadInfo, _Mapping]]] = ..., ingredients: _Optional[_Iterable[_Union[IngredientInfo, _Mapping]]] = ..., data_licences: _Optional[_Iterable[str]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class ModelList(_message.Message):
    __slots__ = ("default_model", "models")
    DEFAULT_MODEL_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    default_model: str
    models: _containers.RepeatedCompositeFieldContainer[ModelInfo]
    def __init__(self, default_model: _Optional[str] = ..., models: _Optional[_Iterable[_Union[ModelInfo, _Mapping]]] = ...) -> None: ...

class ListSoupsRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class CreateSoupRequest(_message.Message):
    __slots__ = ("coefficients", "model")
    class CoefficientsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    COEFFICIENTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    coefficients: _containers.ScalarMap[str, float]
    model: str
    def __init__(self, coefficients: _Optional[_Mapping[str, float]] = ..., model: _Optional[str] = ...) -> None: ...

class ActivateSoupRequest(_message.Message):
    __slots__ = ("fingerprint", "model")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    model: str
    def __init__(self, fingerprint: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class ShadowSoupRequest(_message.Message):
    __slots__ = ("fingerprint", "model")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    model: str
    def __init__(self, fingerprint: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class RollbackSoupRequest(_message.Message):
    __slots__ = ("fingerprint", "model")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    model: str
    def __init__(self, fingerprint: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class ShadowReport(_message.Message):
    __slots__ = ("responses", "skipped", "failed", "rank_correlation", "drift_psi", "mean_active", "mean_shadow", "largest_change")
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    RANK_CORRELATION_FIELD_NUMBER: _ClassVar[int]
    DRIFT_PSI_FIELD_NUMBER: _ClassVar[int]
    MEAN_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    MEAN_SHADOW_FIELD_NUMBER: _ClassVar[int]
    LARGEST_CHANGE_FIELD_NUMBER: _ClassVar[int]
    responses: int
    skipped: int
    failed: int
    rank_correlation: float
    drift_psi: float
    mean_active: float
    mean_shadow: float
    largest_change: float
    def __init__(self, responses: _Optional[int] = ..., skipped: _Optional[int] = ..., failed: _Optional[int] = ..., rank_correlation: _Optional[float] = ..., drift_psi: _Optional[float] = ..., mean_active: _Optional[float] = ..., mean_shadow: _Optional[float] = ..., largest_change: _Optional[float] = ...) -> None: ...

class SoupInfo(_message.Message):
    __slots__ = ("fingerprint", "soup", "state", "coefficients", "created_ns", "trouble", "shadow")
    class CoefficientsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    SOUP_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    COEFFICIENTS_FIELD_NUMBER: _ClassVar[int]
    CREATED_NS_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    soup: str
    state: str
    coefficients: _containers.ScalarMap[str, float]
    created_ns: int
    trouble: str
    shadow: ShadowReport
    def __init__(self, fingerprint: _Optional[str] = ..., soup: _Optional[str] = ..., state: _Optional[str] = ..., coefficients: _Optional[_Mapping[str, float]] = ..., created_ns: _Optional[int] = ..., trouble: _Optional[str] = ..., shadow: _Optional[_Union[ShadowReport, _Mapping]] = ...) -> None: ...

class SoupEvent(_message.Message):
    __slots__ = ("action", "fingerprint", "time_ns", "by")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    action: str
    fingerprint: str
    time_ns: int
    by: str
    def __init__(self, action: _Optional[str] = ..., fingerprint: _Optional[str] = ..., time_ns: _Optional[int] = ..., by: _Optional[str] = ...) -> None: ...

class SoupList(_message.Message):
    __slots__ = ("model", "active", "previous", "soups", "history")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    SOUPS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    model: str
    active: str
    previous: str
    soups: _containers.RepeatedCompositeFieldContainer[SoupInfo]
    history: _containers.RepeatedCompositeFieldContainer[SoupEvent]
    def __init__(self, model: _Optional[str] = ..., active: _Optional[str] = ..., previous: _Optional[str] = ..., soups: _Optional[_Iterable[_Union[SoupInfo, _Mapping]]] = ..., history: _Optional[_Iterable[_Union[SoupEvent, _Mapping]]] = ...) -> None: ...
