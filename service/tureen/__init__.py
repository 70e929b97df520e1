"""Tureen: reward-model soups as a service. The base install is the client."""

from tureen._version import __version__
from tureen.client import AsyncRewardClient, RewardClient
from tureen.contracts import (
    Aggregation,
    Granularity,
    HeadScore,
    Message,
    ModelInfo,
    Priority,
    RankRequest,
    RankResponse,
    Redistribution,
    Sample,
    SampleResult,
    Score,
    ScoreRequest,
    ScoreResponse,
    Segment,
    Truncate,
    Uncertainty,
)
from tureen.errors import TureenError

__all__ = [
    "Aggregation",
    "AsyncRewardClient",
    "Granularity",
    "HeadScore",
    "Message",
    "ModelInfo",
    "Priority",
    "RankRequest",
    "RankResponse",
    "Redistribution",
    "RewardClient",
    "Sample",
    "SampleResult",
    "Score",
    "ScoreRequest",
    "ScoreResponse",
    "Segment",
    "Truncate",
    "TureenError",
    "Uncertainty",
    "__version__",
]
