import numpy as np
import pytest
from scipy import stats

from tureen.engine.reward_watch import (
    AGE_S,
    ALL,
    CAPACITY,
    LEAST,
    MOST_CLIENTS,
    OTHER,
    Reading,
    RewardWatch,
    Summary,
    repetition,
    spearman,
)
from tureen.model.drift import RewardReference


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def reading(reward: float, **fields) -> Reading:
    defaults = {"tokens": 10, "repetition": 0.0, "members": (reward,), "comparable": True}
    return Reading(reward=reward, **{**defaults, **fields})


def summary(watch: RewardWatch, client: str = "run") -> Summary:
    return dict(watch.summaries())[client]


def test_spearman_agrees_with_scipy_where_many_are_tied():
    random = np.random.default_rng(3)
    x, y = random.integers(0, 7, 500), random.normal(size=500).round(1)
    expected, _ = stats.spearmanr(x, y)
    assert spearman(x, y) == pytest.approx(expected, abs=1e-12)


def test_spearman_by_hand():
    # ranks 1 2 3 4 against 1 3 2 4: ρ = 1 − 6·(0+1+1+0) / (4·15) = 0.8
    assert spearman(np.array([1, 2, 30, 400]), np.array([5, 7, 6, 8])) == pytest.approx(0.8)


def test_nothing_correlates_with_a_constant():
    assert spearman(np.arange(9.0), np.ones(9)) is None


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([], 0.0),
        ([1, 2, 3, 4], 0.0),  # one 4-gram
        ([1, 2, 3, 4, 5, 6], 0.0),  # three, all different
        ([7] * 8, 0.8),  # five 4-grams, one distinct: 1 − 1/5
        ([1, 2, 1, 2, 1, 2], 1 / 3),  # 1212 2121 1212: 1 − 2/3
        ([4, 3, 2, 1, 1, 2, 3, 4], 0.0),  # the order counts
    ],
)
def test_repetition_counts_4_grams(tokens, expected):
    assert repetition(np.array(tokens, np.int32)) == pytest.approx(expected)


def test_repetition_agrees_with_sets_of_tuples():
    tokens = np.random.default_rng(0).integers(0, 3, 400).astype(np.int32)
    grams = [tuple(tokens[place : place + 4]) for place in range(397)]
    assert repetition(tokens) == pytest.approx(1 - len(set(grams)) / 397)


def test_a_window_in_numbers():
    watch = RewardWatch(members=2)
    for number in range(LEAST):  # rewards 0 … 199; the longer the better, the less repetition
        watch.add(
            "run",
            [
                reading(
                    number,
                    tokens=100 + number,
                    repetition=1 - number / 1000,
                    members=(number - 1.0, number + 1.0),
                )
            ],
        )
    told = summary(watch)
    assert told.rewards == LEAST
    assert told.reward_mean == pytest.approx(99.5)
    assert told.response_tokens == pytest.approx(199.5)
    assert told.repetition == pytest.approx(1 - 0.0995)
    assert told.length_correlation == pytest.approx(1.0)
    assert told.repetition_correlation == pytest.approx(-1.0)
    assert told.member_variance == pytest.approx(1.0)  # ((−1)² + 1²) / 2
    assert told.prompt_variance is None  # no prompt had two responses
    assert told.member_variance_ratio is None  # no reference
    assert told.drift_psi is None


def test_responses_to_one_prompt_differ_by_their_population_variance():
    watch = RewardWatch(members=1)
    for _ in range(LEAST // 2):
        watch.add("run", [reading(1.0), reading(3.0)])
    assert summary(watch).prompt_variance == pytest.approx(1.0)


def test_a_model_of_one_member_does_not_disagree_with_itself():
    watch = RewardWatch(members=1, reference=RewardReference(edges=(0.0,), counts=(9, 9)))
    for _ in range(LEAST):
        watch.add("run", [reading(1.0)])
    assert summary(watch).member_variance is None
    assert summary(watch).member_variance_ratio is None
    assert summary(watch).drift_psi is not None


def test_only_rewards_of_the_models_own_weights_are_compared_with_its_card():
    reference = RewardReference(edges=(0.0,), counts=(50, 50), member_variance=0.5)
    watch = RewardWatch(members=2, reference=reference)
    for number in range(LEAST):
        sign = 1 if number % 2 else -1
        watch.add("run", [reading(sign, members=(sign - 1.0, sign + 1.0))])
        watch.add("run", [reading(900.0, members=(0.0, 1800.0), comparable=False)])
    told = summary(watch)
    assert told.reward_mean == pytest.approx(450.0)
    assert told.member_variance == pytest.approx(1.0)
    assert told.member_variance_ratio == pytest.approx(2.0)
    assert told.drift_psi == pytest.approx(0.0, abs=1e-12)  # half below 0, half above, as then


def test_too_few_comparable_rewards_are_not_compared():
    reference = RewardReference(edges=(0.0,), counts=(50, 50))
    watch = RewardWatch(members=2, reference=reference)
    for _ in range(LEAST):
        watch.add("run", [reading(1.0, members=(0.0, 2.0), comparable=False)])
    told = summary(watch)
    assert told.reward_mean == 1.0
    assert (told.drift_psi, told.member_variance) == (None, None)


def test_the_window_slides():
    watch = RewardWatch(members=1)
    for reward in (-5.0, 5.0):
        for _ in range(CAPACITY):
            watch.add("run", [reading(reward)])
    assert summary(watch).rewards == CAPACITY
    assert summary(watch).reward_mean == 5.0


def test_what_is_old_is_not_told_any_more():
    clock = Clock()
    watch = RewardWatch(members=1, clock=clock)
    for _ in range(LEAST):
        watch.add("run", [reading(1.0)])
    clock.now_s += AGE_S
    assert summary(watch).reward_mean == 1.0
    clock.now_s += 1
    assert summary(watch) == Summary(rewards=0)


def test_clients_have_windows_of_their_own_and_one_together():
    watch = RewardWatch(members=1)
    for _ in range(LEAST):
        watch.add("a", [reading(1.0)])
        watch.add("b", [reading(3.0)])
    assert summary(watch, "a").reward_mean == 1.0
    assert summary(watch, "b").reward_mean == 3.0
    assert summary(watch, ALL).reward_mean == 2.0


def test_the_number_of_clients_is_bounded():
    watch = RewardWatch(members=1)
    for number in range(MOST_CLIENTS + 5):
        watch.add(f"client-{number}", [reading(1.0)])
    told = dict(watch.summaries())
    assert len(told) == MOST_CLIENTS + 2  # and all together, and the others
    assert told[OTHER].rewards == 5
    assert watch.name("client-0") == "client-0"
    assert watch.name("one more") == OTHER
