"""The updates of one PPO step: several passes over its experience, each cut into minibatches.

A minibatch is of all processes, and its loss a mean over all its tokens wherever they lie; forward passes are as small
as memory wants them. Pretraining text joins every update of the policy (PPO-ptx, arXiv:2203.02155), its gradient added
before the one step of the optimiser.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tureen_training.experience import Experience, Rows, batches, read
from tureen_training.kl import estimates
from tureen_training.losses_ppo import clipped_policy_loss, clipped_value_loss
from tureen_training.optim import linear_decay, update
from tureen_training.ppo_config import Config
from tureen_training.replay import Text, learnt_tokens, text_losses
from tureen_training.rollout import Rollout, drawn

TERMS = ("policy", "value", "entropy", "kl", "ratio", "ratio_squared", "clipped", "value_clipped")
"""What is summed over the tokens of all updates of a step, for the log."""


class Networks(NamedTuple):
    policy: nn.Module
    value: nn.Module
    optimiser: torch.optim.Optimizer


def improve(
    config: Config,
    step: int,
    experience: Experience,
    replayed: Sequence[Text],
    networks: Networks,
    rows: Callable[[Sequence[Rollout]], Rows],
    accelerator: Accelerator,
) -> dict[str, float]:
    """Moves both networks.

    Returns:
        Means over the tokens of all updates: losses, clipped shares, entropy, the ratio's mean and variance, and how
        far the policy moved from where it sampled (k3, nats per token). Nothing where no token has a reward.
    """
    rank, processes, device = (
        accelerator.process_index,
        accelerator.num_processes,
        accelerator.device,
    )
    policy_learns = step >= config.value_warmup_steps
    factor = linear_decay(step, config.steps, config.warmup)
    batch = config.rows_per_forward
    minibatch_rows = config.responses_per_step // config.minibatches
    records = round(config.replay_ratio * minibatch_rows) if replayed and policy_learns else 0
    seen = torch.zeros(len(TERMS) + 1, device=device)  # and the tokens
    replay_seen = torch.zeros(2, device=device)  # loss, tokens

    def losses(chosen: Sequence[int], tokens: float, texts: Sequence[Text]) -> Iterator[Tensor]:
        """The terms of one minibatch's loss, one forward pass each."""
        for some in batches(chosen, batch):
            read_rows = rows([experience.rollouts[i] for i in some])
            place = list(some), slice(read_rows.mask.shape[1])
            mask, old = experience.mask[place], experience.log_probs[place]
            old_values, returns = experience.values[place], experience.returns[place]
            with accelerator.autocast():
                log_probs, entropies = read(networks.policy, read_rows, config.temperature)
                values = networks.value(read_rows)
            policy_loss = clipped_policy_loss(
                log_probs, old, experience.advantages[place], config.clip
            )
            value_loss = clipped_value_loss(values, old_values, returns, config.value_clip)
            loss = config.value_weight * value_loss
            if policy_learns:
                loss = loss + policy_loss - config.entropy_bonus * entropies
            with torch.no_grad():
                ratio = (log_probs - old).exp()
                terms = (
                    policy_loss,
                    value_loss,
                    entropies,
                    estimates(old, log_probs).k3,
                    ratio,
                    ratio.square(),
                    ((ratio - 1).abs() > config.clip).float(),
                    ((values - old_values).abs() > config.value_clip).float(),
                )
                seen.add_(torch.stack([*(_sum(term, mask) for term in terms), mask.sum()]))
            yield _sum(loss, mask) / tokens
        text_tokens = learnt_tokens(texts)
        own = texts[rank::processes]
        for some in batches(range(len(own)), batch):
            with accelerator.autocast():
                loss = text_losses(networks.policy, [own[i] for i in some], device)
            replay_seen.add_(
                torch.stack([loss.detach().sum(), torch.tensor(float(len(loss)))]).to(device)
            )
            yield config.replay_weight * loss.sum() / text_tokens

    for number in range(config.epochs * config.minibatches):
        epoch, part = divmod(number, config.minibatches)
        order = list(range(len(experience.rollouts)))
        random.Random(f"{config.seed}:{step}:{epoch}:{rank}").shuffle(order)
        chosen = order[part :: config.minibatches]
        tokens = _total(experience.mask[chosen].sum(), accelerator).item()
        if not tokens:
            continue
        first = (step * config.epochs * config.minibatches + number) * records
        texts = (
            [replayed[i] for i in drawn(len(replayed), first, records, config.seed)]
            if records
            else []
        )
        before = seen.clone()
        update(
            networks.optimiser, losses(chosen, tokens, texts), factor, accelerator, clip_apart=True
        )
        if config.stop_update_at_kl is not None:
            moved = _total(seen - before, accelerator)
            if moved[TERMS.index("kl")] / moved[-1] > config.stop_update_at_kl:
                break
    return _figures(_total(seen, accelerator), _total(replay_seen, accelerator))


def _figures(seen: Tensor, replay_seen: Tensor) -> dict[str, float]:
    *sums, tokens = seen.tolist()
    if not tokens:
        return {}
    means = {name: term / tokens for name, term in zip(TERMS, sums, strict=True)}
    variance = means.pop("ratio_squared") - means["ratio"] ** 2
    figures = {f"update/{name}": mean for name, mean in means.items()}
    figures["update/ratio_variance"] = max(0.0, variance)
    replay_loss, replay_tokens = replay_seen.tolist()
    if replay_tokens:
        figures["replay/loss"] = replay_loss / replay_tokens
    return figures


def _sum(values: Tensor, mask: Tensor) -> Tensor:
    """Of what counts; what does not has no gradient either."""
    return torch.where(mask, values, 0.0).sum()


def _total(sums: Tensor, accelerator: Accelerator) -> Tensor:
    """Over all processes."""
    total = accelerator.reduce(sums, "sum")
    assert isinstance(total, Tensor)
    return total
