"""Suite `ranked`: does the reward put the responses of several systems in the order of people or of GPT-4?

Of each prompt, with C pairs in the right order, D in the wrong one, T_r tied by the reward alone and T_h tied by the
judges alone:

    tau       Kendall's τ_b = (C − D) / √((C + D + T_r)(C + D + T_h)), mean over prompts; −1 … 1. A prompt where the
              judges or the reward tie everything has none and takes no part; `tau_undefined` is their share
    top1      is the response with the highest reward one that no other was preferred to? Several with the highest
              reward share the credit
    accuracy  share of the pairs in the right order, ties of the reward one half, over all pairs

The order is that of the field `score`; in `alpaca_eval_gpt4` scores within 0.01 are a tie. Judges: people
(pandalm_human, tulu_human) or GPT-4, which favours long answers. The files list the systems in one order throughout, so
the baseline `first` knows how strong they are on the whole.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tureen_training import metrics
from tureen_training.data.ranked import read_alpaca, read_scored
from tureen_training.data.records import Comparison, Example, Split
from tureen_training.evaluation.comparisons import Read, accuracy_figures, reward
from tureen_training.evaluation.files import find
from tureen_training.evaluation.job import Job
from tureen_training.evaluation.reward_suites import scored
from tureen_training.evaluation.scorers import Model
from tureen_training.metrics import Figure

COMPARISON = Comparison.PREFERENCE
FOLDER = "ranked_responses"
FILES = ("pandalm_human", "tulu_human", "alpaca_eval_gpt4", "vicuna80_gpt4", "prometheus_gpt4")

Rewards = Sequence[float]


def evaluate(job: Job) -> dict[str, Figure]:
    skipped: Counter[str] = Counter()
    own = parts(job.data, job.split, skipped)
    return scored(job, own, report, skipped=skipped, kind=COMPARISON)


def parts(data: Path, split: Split | None, skipped: Counter[str]) -> dict[str, list[Example]]:
    """Each file that is there, without prompts of fewer than two responses.

    Raises:
        FileNotFoundError: none of them is.
    """
    found: dict[str, list[Example]] = {}
    for name in FILES:
        try:
            path = find(data, FOLDER, name)
        except FileNotFoundError:
            continue
        read = read_alpaca if name.startswith("alpaca") else read_scored
        found[name] = [
            example
            for example in read(path, skipped, name)
            if len(example.responses) > 1 and (split is None or example.split == split)
        ]
    if not found:
        find(data, FOLDER, *FILES)
    return found


def report(read: Mapping[str, Sequence[Read]], model: Model) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for name, own in read.items():
        if own:
            figures |= _mean(f"{name}_tau", own, kendall_tau, {"chance": 0.0})
            figures |= _mean(f"{name}_top1", own, top1, {"chance": _luck(own)})
            undefined = [
                np.array([float(math.isnan(kendall_tau(example, _rewards(readings))))])
                for example, readings in own
            ]
            figures[f"{name}_tau_undefined"] = metrics.mean(undefined, baselines={"none": 0.0})
            figures |= accuracy_figures(f"{name}_accuracy", own, COMPARISON, reward)
    return figures


def _rewards(readings: Sequence) -> Rewards:
    return [reading.reward for reading in readings]


def _mean(
    name: str,
    read: Sequence[Read],
    measure: Callable[[Example, Rewards], float],
    baselines: Mapping[str, float],
) -> dict[str, Figure]:
    """The mean of a measure over prompts where it is defined, beside that of what reads nothing."""

    def over(rewards: Callable[[Read], Rewards]) -> np.ndarray:
        found = np.array([measure(one[0], rewards(one)) for one in read])
        return found[~np.isnan(found)]

    trivial: dict[str, Callable[[Read], Rewards]] = {
        "first": lambda one: [-k for k in range(len(one[0].responses))],
        "longer": lambda one: [len(text) for text in one[0].responses],
        "shorter": lambda one: [-len(text) for text in one[0].responses],
    }
    known = over(lambda one: _rewards(one[1]))
    if not len(known):
        return {}
    luck = {who: float(of.mean()) for who, by in trivial.items() if len(of := over(by))}
    return {name: metrics.mean(list(known[:, None]), baselines=luck | dict(baselines))}


def kendall_tau(example: Example, rewards: Rewards) -> float:
    """τ_b of the rewards and the judges' order (Kendall 1945); NaN where either ties everything."""
    signs = np.sign([rewards[p.chosen] - rewards[p.rejected] for p in example.pairs[COMPARISON]])
    right, wrong, by_reward = (int((signs == sign).sum()) for sign in (1, -1, 0))
    by_judges = sum(rewards[tie.first] != rewards[tie.second] for tie in example.ties[COMPARISON])
    decided = right + wrong
    scale = math.sqrt((decided + by_reward) * (decided + by_judges))
    return (right - wrong) / scale if scale else math.nan


def top1(example: Example, rewards: Rewards) -> float:
    """Share of the responses with the highest reward that no other response was preferred to."""
    beaten = {pair.rejected for pair in example.pairs[COMPARISON]}
    best = [k for k, value in enumerate(rewards) if value == max(rewards)]
    return sum(k not in beaten for k in best) / len(best)


def _luck(read: Sequence[Read]) -> float:
    """`top1` of a constant reward."""
    return float(np.mean([top1(example, [0.0] * len(example.responses)) for example, _ in read]))
