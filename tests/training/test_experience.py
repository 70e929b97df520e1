from pathlib import Path

import pico_ppo
import pytest
import torch
from torch import Tensor, tensor

from tureen.contracts import Score
from tureen_training.experience import ValueModel, read, readings_of, rows_of, token_rewards
from tureen_training.oracle import Unscorable
from tureen_training.policies import Policy, Sampling, load_policy, pad_id
from tureen_training.rollout import Rollout, drawn, parts, read_questions, respond


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> Policy:
    root = pico_ppo.directory(tmp_path_factory.mktemp("experience"))
    return load_policy(root / "policy")


@pytest.fixture(scope="module")
def rollouts(policy: Policy, tmp_path_factory) -> list[Rollout]:
    """Prompts and responses of several lengths, some ended and some not."""
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    pico_ppo.write(path, [{"prompt": prompt} for prompt in pico_ppo.PROMPTS])
    questions, _ = read_questions([str(path)], policy.tokenizer, None)
    made = respond(policy, questions * 3, Sampling(max_new_tokens=4), seed=1, batch=8)
    assert {one.sampled.ended for one in made} == {True, False}
    assert len({len(one.sampled.token_ids) for one in made}) > 1
    assert len({len(one.question.token_ids) for one in made}) > 1
    return made


def alone(policy: Policy, rollout: Rollout, temperature: float) -> Tensor:
    """log softmax(logits / T) of each token of one response, without padding and slices."""
    ids = [*rollout.question.token_ids, *rollout.sampled.token_ids]
    with torch.no_grad():
        logits = policy.model(input_ids=tensor([ids])).logits[0]
    table = (logits / temperature).log_softmax(-1)
    first = len(rollout.question.token_ids)
    return torch.stack([table[i - 1, ids[i]] for i in range(first, len(ids))])


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_log_probs_in_a_padded_batch_are_those_of_each_alone(policy, rollouts, temperature):
    rows = rows_of(rollouts, pad_id(policy.tokenizer), "cpu")
    with torch.no_grad():
        found, _ = read(policy.model, rows, temperature)
    for row, rollout in enumerate(rollouts):
        own = alone(policy, rollout, temperature)
        assert rows.mask[row].sum() == len(own)
        torch.testing.assert_close(found[row, : len(own)], own, atol=1e-5, rtol=1e-5)


def test_readings_do_not_depend_on_the_batch(policy, rollouts):
    value = ValueModel(policy)
    torch.nn.init.normal_(value.head.weight, generator=torch.Generator().manual_seed(0))

    def readings(batch: int):
        return readings_of(
            rollouts,
            policy.model,
            policy.model,
            value,
            lambda some: rows_of(some, pad_id(policy.tokenizer), "cpu"),
            temperature=1.0,
            batch=batch,
        )

    one, many = readings(1), readings(len(rollouts))
    assert torch.equal(one.mask, many.mask)
    for name in ("log_probs", "reference_log_probs", "values", "entropy"):
        first, second = getattr(one, name)[one.mask], getattr(many, name)[one.mask]
        torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)


def test_a_value_does_not_see_the_token_it_comes_before(policy, rollouts):
    """Change the last token of each response: only what comes after it could change, and nothing does."""
    value = ValueModel(policy)
    torch.nn.init.normal_(value.head.weight, generator=torch.Generator().manual_seed(0))
    rows = rows_of(rollouts, pad_id(policy.tokenizer), "cpu")
    last = rows.mask.sum(1) - 1
    changed = rows.ids.clone()
    changed[torch.arange(len(last)), rows.ids.shape[1] - rows.mask.shape[1] + last] = 5
    with torch.no_grad():
        before, after = value(rows), value(rows._replace(ids=changed))
    torch.testing.assert_close(before[rows.mask], after[rows.mask])


def test_the_first_word_of_a_value_model_is_nothing(policy, rollouts):
    value = ValueModel(policy)
    rows = rows_of(rollouts, pad_id(policy.tokenizer), "cpu")
    assert not value(rows).any()


def test_rewards_on_tokens(rollouts):
    """Dense on the service's tokens, else on the last; a response without a reward has none."""
    three = rollouts[:3]
    lengths = [len(one.sampled.token_ids) for one in three]
    mask = torch.arange(max(lengths)) < tensor(lengths)[:, None]
    rewards = []
    for rollout in three[:2]:
        own = tuple(float(n + 1) for n in range(len(rollout.alignment.offsets)))
        rewards.append(Score(reward=sum(own), heads={}, token_rewards=own, tokens=1))
    rewards.append(Unscorable("input_too_long", "too long"))
    dense, scored = token_rewards(three, rewards, mask, dense=True)
    sparse, also = token_rewards(three, rewards, mask, dense=False)
    assert scored.tolist() == also.tolist() == [True, True, False]
    assert not dense[2].any()
    assert not sparse[2].any()
    for row in (0, 1):
        total = rewards[row].reward
        assert dense[row].sum().item() == total
        expected = [0.0] * max(lengths)
        expected[lengths[row] - 1] = total
        assert sparse[row].tolist() == expected
        for n, token in enumerate(three[row].alignment.tokens):
            assert dense[row, token] == n + 1


def test_a_service_without_token_rewards_is_refused(rollouts):
    score = Score(reward=1.0, heads={}, tokens=1)
    with pytest.raises(ValueError, match="gave no token_rewards"):
        token_rewards(rollouts[:1], [score], torch.ones(1, 4, dtype=torch.bool), dense=True)


def test_an_endless_sequence_of_shuffled_passes():
    whole = drawn(5, 0, 15, seed=3)
    assert [sorted(whole[i : i + 5]) for i in (0, 5, 10)] == [list(range(5))] * 3
    assert whole[:5] != whole[5:10]
    assert drawn(5, 4, 7, seed=3) == whole[4:11]
    assert drawn(5, 0, 15, seed=4) != whole


def test_parts_are_whole():
    items = list(range(7))
    assert [list(part) for part in parts(items, 3)] == [[0, 1, 2], [3, 4, 5], [6]]  # pyright: ignore[reportArgumentType]
    assert [list(part) for part in parts(items[:2], 4)] == [[0], [1]]  # pyright: ignore[reportArgumentType]


def test_prompts_without_room_are_left_out_and_counted(policy, tmp_path: Path):
    pico_ppo.write(tmp_path / "p.jsonl", [{"prompt": "the sky"}, {"prompt": "the " * 40}])
    questions, too_long = read_questions([str(tmp_path / "p.jsonl")], policy.tokenizer, 30)
    assert [question.id for question in questions] == ["p-0"]
    assert too_long == 1
