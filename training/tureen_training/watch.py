"""Watching for trouble in the loop: figures of a step's responses, and thresholds on them.

What the published record says of each figure, and where its threshold comes from, stands beside `THRESHOLDS`; they
are starting points to be fitted on runs of one's own, by the rule of demo `alarms`, which also says how late they are
as they stand. Low disagreement is no evidence of safety: members with one pretraining share their errors (Eisenstein
et al., arXiv:2312.09244).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, pstdev, pvariance
from typing import Any, Literal

import torch
from scipy.stats import spearmanr

from tureen.contracts import Score
from tureen.model.files import write_atomically
from tureen_training.diversity import (
    distinct,
    expectation_adjusted_distinct,
    identical,
    repeated,
    self_bleu,
)
from tureen_training.experience import Readings
from tureen_training.kl import KlEstimates
from tureen_training.oracle import Reward, Unscorable
from tureen_training.rollout import Rollout

Action = Literal["warn", "raise_kl", "stop"]

START_STEPS = 3
"""What is compared with the start is compared with the mean of so many first steps."""
GAIN = "reward/gain_per_root_nat"
SELF_BLEU_OF = 32
"""Responses that self-BLEU compares: it is quadratic."""
GRAM = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """What not to pass.

    figure: as a step logs it. above, below: the limits, at least one of them; of_start: as multiples of what the
        figure was at the start. times: steps in a row that pass it before anything is done.
    action: warn; raise_kl: multiply the KL coefficient by `raise_kl_by`, each time; stop: end the run.
    """

    figure: str
    above: float | None = None
    below: float | None = None
    of_start: bool = False
    times: int = 1
    action: Action = "warn"

    def __post_init__(self) -> None:
        if self.above is None and self.below is None:
            raise ValueError(f"the threshold of {self.figure} has no limit; give above or below")
        if self.times < 1:
            raise ValueError(f"times is {self.times}; it must be 1 or more")

    @property
    def key(self) -> str:
        return f"{self.figure} {self.above} {self.below} {self.of_start} {self.action}"

    def passed(self, value: float, start: float | None) -> bool:
        if self.of_start:
            if start is None or start <= 0:  # no multiple of it says anything
                return False
            value /= start
        return (self.above is not None and value > self.above) or (
            self.below is not None and value < self.below
        )


THRESHOLDS = (
    # Coste et al.: ×2.5 to ×3 where the mean is over-optimised, +20 % where it is not.
    Threshold(figure="reward/disagreement", above=2.0, of_start=True, times=3),
    # Singhal et al. (arXiv:2310.03716): a reward of length alone reproduces most of what RLHF gains.
    Threshold(figure="correlation/reward_length", above=0.4, times=5),
    Threshold(figure="correlation/reward_repetition", above=0.4, times=5),
    Threshold(figure="response/tokens", above=1.5, below=0.5, of_start=True, times=3),
    # Razin et al. (arXiv:2503.15477): without variance within a prompt there is nothing to learn from.
    Threshold(figure="reward/std_within_prompt", below=0.3, of_start=True, times=3),
    Threshold(figure="diversity/ead_2", below=0.5, of_start=True, times=3),
    Threshold(figure="diversity/identical", above=0.5, times=3),
    Threshold(figure="policy/entropy", below=0.2, of_start=True, times=3),
    Threshold(figure="response/ended", below=0.5, of_start=True, times=3),
    Threshold(figure="reference/perplexity", above=3.0, of_start=True, times=3),
    Threshold(figure="oracle/unscorable_frac", above=0.5, times=3, action="stop"),
    # Fine-Grained RLHF stops when the KL has passed its limit five times.
    Threshold(figure="kl/k1_nats_per_response", above=100.0, times=5, action="stop"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    figure: str
    value: float
    start: float | None
    action: Action


class Watch:
    """Keeps what the figures were at the start, and how often in a row each threshold was passed."""

    def __init__(self, thresholds: Sequence[Threshold]) -> None:
        self._thresholds = tuple(thresholds)
        self._first: dict[str, list[float]] = {}
        self._passed: Counter[str] = Counter()

    def look(self, figures: Mapping[str, float]) -> list[Alarm]:
        """The alarms of one step; a figure that the step does not have says nothing."""
        alarms: list[Alarm] = []
        for threshold in self._thresholds:
            value = figures.get(threshold.figure)
            if value is None:
                continue
            start = self._start(threshold.figure)
            if not threshold.passed(value, start):
                self._passed[threshold.key] = 0
                continue
            self._passed[threshold.key] += 1
            if self._passed[threshold.key] % threshold.times == 0:
                alarms.append(
                    Alarm(
                        figure=threshold.figure, value=value, start=start, action=threshold.action
                    )
                )
        compared = {t.figure for t in self._thresholds if t.of_start} | {"reward/mean"}
        for name in compared & figures.keys():
            first = self._first.setdefault(name, [])
            if len(first) < START_STEPS:
                first.append(figures[name])
        return alarms

    def against_kl(self, figures: Mapping[str, float]) -> dict[str, float]:
        """What the reward has gained since the start for the distance from it, as a figure to log and to look at.

            (reward − reward at the start) / √KL

        Nothing before the start is known, and where there is no distance. Gao et al. (arXiv:2210.10760) find the
        proxy about linear in √KL, and gold falling behind it.
        """
        start, reward = self._start("reward/mean"), figures.get("reward/mean")
        nats = figures.get("kl/k1_nats_per_response", 0.0)
        if start is None or reward is None or nats <= 0:
            return {}
        return {GAIN: (reward - start) / math.sqrt(nats)}

    def _start(self, figure: str) -> float | None:
        first = self._first.get(figure, ())
        return fmean(first) if len(first) == START_STEPS else None

    def state(self) -> dict[str, Any]:
        return {"first": self._first, "passed": dict(self._passed)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._first = {name: list(values) for name, values in state["first"].items()}
        self._passed = Counter(state["passed"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of one response once a step has scored it; logs and figures are made of these alone.

    code: why it could not be scored, None where it has a reward. std: of the members' rewards, where there are
    members. heads: calibrated value of each. k1, k2, k3, entropy, reference_log_prob: sums over its tokens.
    """

    id: str
    text: str
    token_ids: tuple[int, ...]
    ended: bool
    code: str | None
    reward: float | None
    std: float | None
    k1: float
    k2: float
    k3: float
    entropy: float
    reference_log_prob: float
    heads: Mapping[str, float] = field(default_factory=dict)


def facts_of(
    rollouts: Sequence[Rollout], rewards: Sequence[Reward], readings: Readings, kl: KlEstimates
) -> Iterator[Facts]:
    """What is known of each response, as the log and the watch want it."""
    tensors = (*kl, readings.entropy, readings.reference_log_probs)
    sums = torch.stack([torch.where(readings.mask, t, 0.0).sum(1) for t in tensors], dim=1)
    for rollout, reward, row in zip(rollouts, rewards, sums.tolist(), strict=True):
        score = reward if isinstance(reward, Score) else None
        k1, k2, k3, entropy, reference_log_prob = row
        yield Facts(
            id=rollout.question.id,
            text=rollout.sampled.text,
            token_ids=rollout.sampled.token_ids,
            ended=rollout.sampled.ended,
            code=reward.code if isinstance(reward, Unscorable) else None,
            reward=None if score is None else score.reward,
            std=None if score is None or score.uncertainty is None else score.uncertainty.std,
            k1=k1,
            k2=k2,
            k3=k3,
            entropy=entropy,
            reference_log_prob=reference_log_prob,
            heads={} if score is None else {n: h.calibrated for n, h in score.heads.items()},
        )


def write_facts(path: Path, facts: Sequence[Facts]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(dataclasses.asdict(one), ensure_ascii=False) for one in facts]
    write_atomically(path, "\n".join(lines) + "\n")


def figures_of(facts: Sequence[Facts], vocabulary: int) -> dict[str, float]:
    """The figures of one step. What is undefined, as the spread of one number, is left out.

    vocabulary: tokens that the policy can choose from.
    """
    responses, scored = len(facts), [one for one in facts if one.reward is not None]
    rewards = [one.reward for one in scored if one.reward is not None]
    tokens = sum(len(one.token_ids) for one in facts)
    figures: dict[str, float | None] = {
        "oracle/unscorable_frac": 1 - len(scored) / responses,
        "reward/mean": _mean(rewards),
        "reward/std": pstdev(rewards) if rewards else None,
        "reward/disagreement": _mean(one.std**2 for one in scored if one.std is not None),
        "kl/k1_nats_per_response": fmean(one.k1 for one in facts),
        "kl/k2_nats_per_response": fmean(one.k2 for one in facts),
        "kl/k3_nats_per_response": fmean(one.k3 for one in facts),
        "kl/k1_nats_per_token": sum(one.k1 for one in facts) / tokens,
        "policy/entropy": sum(one.entropy for one in facts) / tokens,
        "reference/perplexity": math.exp(-sum(one.reference_log_prob for one in facts) / tokens),
        "response/tokens": tokens / responses,
        "response/ended": fmean(one.ended for one in facts),
        "response/repetition": fmean(repeated(one.token_ids, GRAM) for one in facts),
        "correlation/reward_length": _spearman(rewards, [len(one.token_ids) for one in scored]),
        "correlation/reward_repetition": _spearman(
            rewards, [repeated(one.token_ids, GRAM) for one in scored]
        ),
    }
    for code, count in Counter(one.code for one in facts if one.code is not None).items():
        figures[f"oracle/unscorable/{code}"] = count / responses
    for head in scored[0].heads if scored else ():
        figures[f"heads/{head}"] = fmean(one.heads[head] for one in scored)
    by_prompt: defaultdict[str, list[Facts]] = defaultdict(list)
    for one in facts:
        by_prompt[one.id].append(one)
    across = [own[0] for own in by_prompt.values()]
    several = [own for own in by_prompt.values() if len(own) > 1]
    figures |= _diversity("diversity", across, vocabulary)
    within = [_diversity("diversity_within_prompt", own, vocabulary) for own in several]
    for name in within[0] if within else ():
        figures[name] = _mean(one[name] for one in within)
    known = [[one.reward for one in own if one.reward is not None] for own in several]
    spread = [pvariance(own) for own in known if len(own) > 1]
    figures["reward/std_within_prompt"] = math.sqrt(fmean(spread)) if spread else None
    return {name: value for name, value in figures.items() if value is not None}


def _diversity(prefix: str, facts: Sequence[Facts], vocabulary: int) -> dict[str, float | None]:
    tokens = [one.token_ids for one in facts]
    found = {f"{prefix}/distinct_{n}": distinct(tokens, n) for n in (1, 2)}
    return found | {
        f"{prefix}/ead_2": expectation_adjusted_distinct(tokens, 2, vocabulary),
        f"{prefix}/self_bleu": self_bleu(tokens[:SELF_BLEU_OF]),
        f"{prefix}/identical": identical([one.text for one in facts]),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """None where one of them does not vary."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    correlation, _ = spearmanr(first, second)
    return float(correlation)  # pyright: ignore[reportArgumentType] - of two vectors it is one number
