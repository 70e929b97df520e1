"""Rollouts as tensors, what the three networks say of them, and their rewards, put on tokens.

Legend: B rollouts, T tokens of the longest prompt and of the longest response, R of the latter. Prompts are padded at
the left and responses at the right, so that all responses begin at one place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tureen.contracts import Score
from tureen.text.policy_tokens import spread
from tureen_training.advantages import at_last_token
from tureen_training.losses_ppo import entropy, token_log_probs
from tureen_training.oracle import Reward
from tureen_training.policies import Policy, left_padded
from tureen_training.rollout import Rollout


class Rows(NamedTuple):
    """What the networks read.

    ids, attention_mask, position_ids: Shape: (B, T). response_ids: Shape: (B, R).
    mask: True where a token of a response stands. Shape: (B, R)
    """

    ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    response_ids: Tensor
    mask: Tensor


def rows_of(rollouts: Sequence[Rollout], padding: int, device: torch.device | str) -> Rows:
    prompts = [rollout.question.token_ids for rollout in rollouts]
    responses = [torch.tensor(rollout.sampled.token_ids) for rollout in rollouts]
    ids, counts = left_padded(prompts, padding)
    response_ids = nn.utils.rnn.pad_sequence(responses, batch_first=True, padding_value=padding)
    lengths = torch.tensor([len(tokens) for tokens in responses])
    mask = torch.arange(response_ids.shape[1]) < lengths[:, None]
    attention_mask = torch.cat([counts, mask], dim=1)
    rows = Rows(
        ids=torch.cat([ids, response_ids], dim=1),
        attention_mask=attention_mask,
        position_ids=(attention_mask.cumsum(1) - 1).clamp_min(0),
        response_ids=response_ids,
        mask=mask,
    )
    return Rows(*(tensor.to(device) for tensor in rows))


class ValueModel(nn.Module):
    """What reward is still to come, before each token of a response.

    A network of its own that begins as a copy of the policy with a head of zeros: its gradients do not pull at the
    policy, it learns at its own rate, and its first word is 0 for everything. The reward model would be a better
    start where it reads the same tokens, but here it is a service.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(policy.model.base_model)
        self.head = nn.Linear(policy.model.config.get_text_config().hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, rows: Rows) -> Tensor:
        """Shape: (B, R)"""
        hidden = self.backbone(
            input_ids=rows.ids,
            attention_mask=rows.attention_mask,
            position_ids=rows.position_ids,
            use_cache=False,
        ).last_hidden_state
        before = hidden[:, -rows.mask.shape[1] - 1 : -1]  # (B, R, D), where each token was chosen
        return self.head(before)[..., 0].float()


def read(model: nn.Module, rows: Rows, temperature: float) -> tuple[Tensor, Tensor]:
    """log π of the responses' tokens and the entropy at each, at the temperature of sampling. Shape: (B, R) each.

    Logits are of the response alone, and of one forward pass; they are never kept.
    """
    logits = model(
        input_ids=rows.ids,
        attention_mask=rows.attention_mask,
        position_ids=rows.position_ids,
        logits_to_keep=rows.mask.shape[1] + 1,
        use_cache=False,
    ).logits[:, :-1]
    return token_log_probs(logits, rows.response_ids, temperature), entropy(logits, temperature)


@dataclass(frozen=True, slots=True)
class Readings:
    """Of the sampled tokens, before any update. Shape: (B, R) each.

    mask: as in `Rows`. values: 0 where there is no value network.
    """

    mask: Tensor
    log_probs: Tensor
    reference_log_probs: Tensor
    values: Tensor
    entropy: Tensor


def readings_of(
    rollouts: Sequence[Rollout],
    policy: nn.Module,
    reference: nn.Module,
    value: nn.Module | None,
    rows: Callable[[Sequence[Rollout]], Rows],
    *,
    temperature: float,
    batch: int,
) -> Readings:
    """What the networks say, `batch` rollouts at a time."""
    longest = max(len(rollout.sampled.token_ids) for rollout in rollouts)
    found: list[list[Tensor]] = []
    with torch.no_grad():
        for some in batches(range(len(rollouts)), batch):
            read_rows = rows([rollouts[i] for i in some])
            log_probs, entropies = read(policy, read_rows, temperature)
            reference_log_probs, _ = read(reference, read_rows, temperature)
            values = torch.zeros_like(log_probs) if value is None else value(read_rows)
            tensors = (read_rows.mask, log_probs, reference_log_probs, values, entropies)
            found.append([nn.functional.pad(t, (0, longest - t.shape[1])) for t in tensors])
    return Readings(*(torch.cat(tensors) for tensors in zip(*found, strict=True)))


def batches(rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (rows[i : i + size] for i in range(0, len(rows), size))


def token_rewards(
    rollouts: Sequence[Rollout], rewards: Sequence[Reward], mask: Tensor, *, dense: bool
) -> tuple[Tensor, Tensor]:
    """Each response's reward on its tokens, and which responses have one.

    Args:
        rewards: of the oracle. mask: tokens of the responses. Shape: (B, R)
        dense: as the service spread it over the tokens; otherwise all of it on the last token.

    Returns:
        Rewards, 0 in rows without one, which nothing may learn from. Shape: (B, R)
        True where there is a reward. Shape: (B,)
    """
    scored = torch.tensor([isinstance(reward, Score) for reward in rewards], device=mask.device)
    if not dense:
        amounts = [reward.reward if isinstance(reward, Score) else 0.0 for reward in rewards]
        return at_last_token(torch.tensor(amounts, device=mask.device), mask), scored
    placed = torch.zeros(mask.shape, device=mask.device)
    for row, (rollout, reward) in enumerate(zip(rollouts, rewards, strict=True)):
        if isinstance(reward, Score):
            if reward.token_rewards is None:
                raise ValueError(
                    "the service gave no token_rewards; ask one that does, or train with dense false"
                )
            tokens = len(rollout.sampled.token_ids)
            own = spread(rollout.alignment, reward.token_rewards, tokens)
            placed[row, :tokens] = torch.tensor(own, device=mask.device)
    return placed, scored


@dataclass(frozen=True, slots=True)
class Experience:
    """What a step learns from; tensors on the device. Shape: (B, R) each.

    mask: True at the tokens of responses that have a reward. log_probs, values: before any update.
    """

    rollouts: Sequence[Rollout]
    mask: Tensor
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
