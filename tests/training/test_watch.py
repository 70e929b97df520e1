import json
import math

import pytest

from tureen_training.watch import THRESHOLDS, Facts, Threshold, Watch, figures_of


def facts(text: str, reward: float | None, *, name: str = "p", std: float | None = None, **changes):
    tokens = tuple(text.split())
    defaults = {
        "id": name,
        "text": text,
        "token_ids": tuple(map(hash, tokens)),
        "ended": True,
        "code": None if reward is not None else "input_too_long",
        "reward": reward,
        "std": std,
        "k1": 1.0,
        "k2": 0.5,
        "k3": 0.25,
        "entropy": 2.0,
        "reference_log_prob": -len(tokens) * math.log(10),
        "heads": {} if reward is None else {"factuality": 2 * reward},
    }
    return Facts(**defaults | changes)


def test_the_figures_of_three_responses_by_hand():
    """Rewards 1 and 3 of two scored; 2, 3 and 1 tokens; members differ by 0.1 and 0.3."""
    found = figures_of(
        [
            facts("a b", 1.0, name="p", std=0.1),
            facts("a b a", 3.0, name="q", std=0.3, k1=4.0, ended=False),
            facts("c", None, name="r", k1=-2.0),
        ],
        vocabulary=10,
    )
    assert found["oracle/unscorable_frac"] == pytest.approx(1 / 3)
    assert found["oracle/unscorable/input_too_long"] == pytest.approx(1 / 3)
    assert found["reward/mean"] == 2.0
    assert found["reward/std"] == 1.0
    assert found["reward/disagreement"] == pytest.approx((0.01 + 0.09) / 2)
    assert found["heads/factuality"] == 4.0
    assert found["kl/k1_nats_per_response"] == pytest.approx(1.0)
    assert found["kl/k1_nats_per_token"] == pytest.approx(3 / 6)
    assert found["policy/entropy"] == pytest.approx(6 / 6)
    assert found["reference/perplexity"] == pytest.approx(10.0)
    assert found["response/tokens"] == 2.0
    assert found["response/ended"] == pytest.approx(2 / 3)
    assert found["correlation/reward_length"] == pytest.approx(1.0)
    assert found["diversity/distinct_1"] == pytest.approx(3 / 6)
    assert found["diversity/distinct_2"] == pytest.approx(2 / 3)  # ab, ab, ba
    assert "reward/std_within_prompt" not in found  # one response each
    assert "correlation/reward_repetition" not in found  # no trigram repeats
    json.dumps(found, allow_nan=False)


def test_the_spread_within_prompts_by_hand():
    """Variances 1 and 4: the root of their mean. What has no reward has no part in it."""
    several = [facts("a b", r, name="p") for r in (0.0, 2.0, None)]
    several += [facts("c d", r, name="q") for r in (1.0, 5.0)]
    found = figures_of(several, vocabulary=10)
    assert found["reward/std_within_prompt"] == pytest.approx(math.sqrt(2.5))
    assert found["diversity_within_prompt/identical"] == 1.0
    assert found["diversity/identical"] == 0.0  # across prompts: one response of each


def test_nothing_scored_is_no_reward():
    found = figures_of([facts("a b", None), facts("c", None)], vocabulary=10)
    assert found["oracle/unscorable_frac"] == 1.0
    assert not [name for name in found if name.startswith(("reward/", "heads/", "correlation/"))]


def looks(watch: Watch, figure: str, values: list[float]) -> list[int]:
    """The steps, from 0, that alarm."""
    return [step for step, value in enumerate(values) if watch.look({figure: value})]


def test_a_limit_is_passed_so_many_times_in_a_row():
    watch = Watch([Threshold(figure="x", above=1.0, times=3)])
    assert looks(watch, "x", [2, 2, 0, 2, 2, 2, 2, 2, 2]) == [5, 8]
    assert looks(Watch([Threshold(figure="x", below=1.0)]), "x", [1, 0.9, 2]) == [1]
    assert looks(Watch([Threshold(figure="y", above=1.0)]), "x", [5.0]) == []


def test_a_multiple_of_the_start():
    """The start is the mean of three steps, 2; nothing is passed before it is known."""
    watch = Watch([Threshold(figure="x", above=2.0, below=0.5, of_start=True)])
    assert looks(watch, "x", [1, 2, 3, 4, 4.1, 1, 0.9]) == [4, 6]
    [alarm] = watch.look({"x": 5.0})
    assert (alarm.value, alarm.start, alarm.action) == (5.0, 2.0, "warn")
    silent = Watch([Threshold(figure="x", above=2.0, of_start=True)])
    assert looks(silent, "x", [0, 0, 0, 9]) == []  # no multiple of 0


def test_the_reward_against_the_distance():
    """Start (1 + 2 + 3) / 3 = 2; at 4 nats a reward of 5 has gained 3 / √4."""
    watch = Watch([])
    for reward in (1.0, 2.0, 3.0):
        figures = {"reward/mean": reward, "kl/k1_nats_per_response": 4.0}
        assert watch.against_kl(figures) == {}
        watch.look(figures)
    figures = {"reward/mean": 5.0, "kl/k1_nats_per_response": 4.0}
    assert watch.against_kl(figures) == {"reward/gain_per_root_nat": 1.5}
    assert watch.against_kl({"reward/mean": 5.0, "kl/k1_nats_per_response": -0.1}) == {}
    assert watch.against_kl({"kl/k1_nats_per_response": 4.0}) == {}


def test_every_signal_of_trouble_has_a_figure():
    """Rewards that favour long and repetitive responses, of members that disagree: nothing is undefined."""
    texts = ["a b c", "a b c d a b c d", "e f e f e f e f e f", "g h"]
    found = figures_of(
        [facts(text, float(len(text)), name=name, std=0.5) for name in "pq" for text in texts],
        vocabulary=10,
    )
    assert found["correlation/reward_length"] > 0.9
    assert found["correlation/reward_repetition"] > 0.9
    wanted = {"reward/disagreement", "reward/std_within_prompt", "policy/entropy"}
    for where in ("diversity", "diversity_within_prompt"):
        wanted |= {f"{where}/{n}" for n in ("distinct_1", "ead_2", "self_bleu", "identical")}
    assert wanted <= found.keys()
    assert {threshold.figure for threshold in THRESHOLDS} <= found.keys()


def test_a_watch_goes_on_where_it_stood():
    thresholds = [
        Threshold(figure="x", above=2.0, of_start=True, times=2, action="stop"),
        Threshold(figure="x", below=0.0),
    ]
    values = [1.0, 1.0, 1.0, 3.0, 3.0, -1.0]
    whole = Watch(thresholds)
    expected = [whole.look({"x": value}) for value in values]
    assert [len(alarms) for alarms in expected] == [0, 0, 0, 0, 1, 1]
    for cut in range(len(values)):
        first, second = Watch(thresholds), Watch(thresholds)
        found = [first.look({"x": value}) for value in values[:cut]]
        second.restore(json.loads(json.dumps(first.state())))
        assert found + [second.look({"x": value}) for value in values[cut:]] == expected
