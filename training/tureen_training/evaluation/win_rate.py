"""Suite `win_rate`: how often a second policy's response beats a first one's, by a reward model, a judge or both.

`before` and `after` are two policies that answer `prompts`, or two files of their responses in our own format.

    win_rate         share of the comparisons that `after` wins by reward, a tie one half; all pairs of a prompt's
                     responses are compared
    tie_rate         share of exact ties
    reward_gain      mean reward of after − mean reward of before, in the units of the reward
    judge_win_rate   the same by a judge who compares the k-th response of either side in both orders: what turns
                     with the order is a tie
    judge_turned     share of the comparisons that turned
    judge_first      share of the decided verdicts, both orders counted, for the response shown first; ½ without bias
    judge_no_verdict share of the comparisons without a verdict in both orders; they take no part

Intervals are over prompts. `longer` and `shorter` are what these rules would say: a reward or a judge that likes length
reports a win rate near that of `longer`. A win rate is by its judge: a policy that was trained against a reward wins by
that reward whether it got better or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product

import numpy as np

from tureen_training import metrics
from tureen_training.evaluation.comparisons import Read
from tureen_training.evaluation.job import Job
from tureen_training.evaluation.responses import Match, matches
from tureen_training.evaluation.reward_suites import scored
from tureen_training.evaluation.scorers import Model
from tureen_training.evaluation.subjects import Subject
from tureen_training.evaluation.verdicts import Question, verdicts
from tureen_training.judge.errors import Failure
from tureen_training.judge.pairwise import BothOrders, position_bias
from tureen_training.judge.rubric import load_rubric, prompt_text
from tureen_training.metrics import Figure


def evaluate(job: Job) -> dict[str, Figure]:
    found = matches(job)
    figures: dict[str, Figure] = {}
    if job.has(Subject.REWARD):
        before = {match.prompt_id: len(match.before) for match in found}
        figures |= scored(
            job, {"prompts": [match.example() for match in found]}, partial(report, before=before)
        )
    if job.has(Subject.JUDGE):
        figures |= judged(job, found)
    return figures


def report(
    read: Mapping[str, Sequence[Read]], model: Model, *, before: Mapping[str, int]
) -> dict[str, Figure]:
    """By the reward. before: prompt -> how many of its responses, from the first, are of `before`."""
    own = read["prompts"]
    if not own:
        return {}

    def margins(scores: Callable[[Read], Sequence[float]]) -> list[np.ndarray]:
        return [_margins(scores(one), before[one[0].prompt_id]) for one in own]

    by_reward = margins(lambda one: [reading.reward for reading in one[1]])
    by_length = np.concatenate(margins(lambda one: [len(text) for text in one[0].responses]))
    return {
        "win_rate": metrics.bootstrap(by_reward, metrics.accuracy, baselines=_trivial(by_length)),
        "tie_rate": metrics.mean([_ties(own) for own in by_reward], baselines={"none": 0.0}),
        # all pairs of a prompt: the mean of the differences is the difference of the means
        "reward_gain": metrics.mean(
            [np.array([margin.mean()]) for margin in by_reward], baselines={"no change": 0.0}
        ),
    }


def _margins(scores: Sequence[float], before: int) -> np.ndarray:
    """after − before, for all pairs. (P,)"""
    return np.array([after - first for first, after in product(scores[:before], scores[before:])])


def _ties(margins: np.ndarray) -> np.ndarray:
    return (margins == 0).astype(float)


def _trivial(by_length: np.ndarray) -> dict[str, float]:
    longer = metrics.accuracy(by_length)
    return {"longer": longer, "shorter": 1 - longer, "chance": 0.5}


def judged(job: Job, found: Sequence[Match]) -> dict[str, Figure]:
    """By the judge, in both orders."""
    rubric = load_rubric(job.config.rubric)
    if rubric.kind != "comparison":
        raise ValueError(
            f"rubric {rubric.name!r} rates single responses; win_rate needs one that compares"
        )
    job.facts["rubric"] = {"name": rubric.name, "fingerprint": rubric.fingerprint}
    pairs = [
        (match, first, after)
        for match in found
        for first, after in zip(match.before, match.after, strict=False)
    ]
    questions = [
        Question(
            match.prompt_id,
            rubric.messages(prompt_text(match.prompt, match.messages), shown, match.context),
            rubric.read,
        )
        for match, first, after in pairs
        for shown in ((after, first), (first, after))
    ]
    said = verdicts(job, questions)
    return judge_figures(
        [(match.prompt_id, len(after) - len(first)) for match, first, after in pairs],
        list(zip(said[::2], said[1::2], strict=True)),
    )


def judge_figures(
    pairs: Sequence[tuple[str, int]], said: Sequence[tuple[int | Failure, int | Failure]]
) -> dict[str, Figure]:
    """Of comparisons in both orders.

    Args:
        pairs: (prompt, length of after − length of before) of each.
        said: the verdict with after shown first, and with before shown first.
    """
    both: dict[str, list[tuple[BothOrders, int]]] = {}
    missing: dict[str, list[float]] = {}
    for (prompt, longer), (forward, swapped) in zip(pairs, said, strict=True):
        lost = isinstance(forward, Failure) or isinstance(swapped, Failure)
        missing.setdefault(prompt, []).append(float(lost))
        if not isinstance(forward, Failure) and not isinstance(swapped, Failure):
            one = BothOrders.read(forward, swapped)
            both.setdefault(prompt, []).append((one, longer))
    figures = {
        "judge_no_verdict": metrics.mean(
            [np.array(own) for own in missing.values()], baselines={"none": 0.0}
        )
    }
    if not both:
        return figures
    by_length = np.array([longer for own in both.values() for _, longer in own])
    wins = [np.array([one.verdict for one, _ in own], np.float64) for own in both.values()]
    turned = [np.array([float(one.turned) for one, _ in own]) for own in both.values()]
    figures |= {
        "judge_win_rate": metrics.bootstrap(wins, metrics.accuracy, baselines=_trivial(by_length)),
        "judge_tie_rate": metrics.mean([_ties(own) for own in wins], baselines={"none": 0.0}),
        "judge_turned": metrics.mean(turned, baselines={"none": 0.0}),
    }
    bias = position_bias([one for own in both.values() for one, _ in own])
    if bias is not None and bias.first_shown_rate is not None:
        figures["judge_first"] = metrics.bootstrap(
            [np.array([[one.forward, one.backward] for one, _ in own]) for own in both.values()],
            _first_shown,
            baselines={"without bias": 0.5},
        )
    return figures


def _first_shown(verdicts: np.ndarray) -> float:
    """Of (P, 2) verdicts forward and backward, the share of the decided ones for what was shown first."""
    decided = int((verdicts != 0).sum())
    shown_first = int((verdicts[:, 0] > 0).sum() + (verdicts[:, 1] < 0).sum())
    return shown_first / decided if decided else np.nan
