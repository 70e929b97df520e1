from tureen.client.flow import Retry
from tureen.client.grpc import AsyncGrpcRewardClient, GrpcRewardClient
from tureen.client.http import AsyncRewardClient, RewardClient

__all__ = [
    "AsyncGrpcRewardClient",
    "AsyncRewardClient",
    "GrpcRewardClient",
    "Retry",
    "RewardClient",
]
