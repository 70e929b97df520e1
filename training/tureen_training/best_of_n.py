"""Best-of-n: what is gained by taking the best of n responses in the eyes of the reward model."""

from __future__ import annotations

import math

import numpy as np


def best_of_n(proxy: np.ndarray, gold: np.ndarray, n: int) -> float:
    """Expected gold score of the response that the proxy likes best among n, from N ≥ n samples of one prompt.

        Ê_n = Σ_{i=n}^{N} C(i−1, n−1) / C(N, n) · gold(S_i),   S sorted by proxy, ascending

    Unbiased: the mean over all subsets of n (Gao, Schulman and Hilton, arXiv:2210.10760, appendix I). Where the
    proxy does not tell samples apart, each of them is taken equally often: they share their mean gold score, which
    is the expectation of breaking ties at random.

    Args:
        proxy, gold: scores of the same samples. Shape: (N,)
        n: from 1, the plain mean, to N, the gold score of the proxy's favourite.
    """
    if proxy.shape != gold.shape or proxy.ndim != 1:
        raise ValueError(
            f"proxy and gold must have one shape (N,), got {proxy.shape} and {gold.shape}"
        )
    samples = len(proxy)
    if not 1 <= n <= samples:
        raise ValueError(f"n is {n}; of {samples} samples it must be in 1 … {samples}")
    _, tied, counts = np.unique(proxy, return_inverse=True, return_counts=True)
    shared = (np.bincount(tied, weights=gold) / counts)[tied]
    ranked = shared[np.argsort(proxy, kind="stable")]
    log_share = [_log_choose(i - 1, n - 1) - _log_choose(samples, n) for i in range(n, samples + 1)]
    return float(np.exp(log_share) @ ranked[n - 1 :])


def kl_of_best_of_n(n: int) -> float:
    """KL(best-of-n ‖ policy) in nats per response, without ties: log n − (n − 1) / n."""
    return math.log(n) - (n - 1) / n


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
