"""What `reward_watch` sees, as gauges: absent, not zero, where there is too little to tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tureen.engine.reward_watch import LEAST, RewardWatch

WINDOW = {
    "rewards": ("responses", f"Rewards in the window; below {LEAST} nothing else is said of it."),
    "reward_mean": ("reward", "Mean reward."),
    "response_tokens": ("tokens", "Mean length of the responses."),
    "repetition": ("share", "Mean share of 4-grams of a response that repeat another of its own."),
    "length_correlation": ("Spearman's ρ", "Correlation of reward and length of the response."),
    "repetition_correlation": (
        "Spearman's ρ",
        "Correlation of reward and repetition within the response.",
    ),
    "prompt_variance": (
        "reward²",
        "Mean variance of the rewards for one prompt, of requests with several responses to it.",
    ),
    "member_variance": (
        "reward²",
        "Mean variance of the members' rewards, with the model's own heads and weights.",
    ),
    "member_variance_ratio": (
        "ratio",
        "The same over that of the model card's reference; absent without one.",
    ),
    "drift_psi": (
        "PSI",
        "Drift of the rewards from the model card's reference, in ten bins; absent without one.",
    ),
}
"""Field of `Summary` -> unit and meaning."""

WINDOW_LABELS = ("model", "client")


class WindowCollector(Collector):
    """Computes the summaries of all windows when it is scraped: about 1 ms a full window.

    Args:
        watches: by model; read anew each time.
    """

    def __init__(self, watches: Mapping[str, RewardWatch]) -> None:
        self._watches = watches

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return self._families().values()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        families = self._families()
        for model, watch in self._watches.items():
            for client, summary in watch.summaries():
                for name, family in families.items():
                    value = getattr(summary, name)
                    if value is not None:
                        family.add_metric((model, client), value)
        return families.values()

    def _families(self) -> dict[str, GaugeMetricFamily]:
        return {
            name: GaugeMetricFamily(f"tureen_window_{name}", text, labels=WINDOW_LABELS)
            for name, (_, text) in WINDOW.items()
        }
