"""Options of the stage `ppo`."""

from __future__ import annotations

from dataclasses import dataclass

from tureen_training.oracle import OracleOptions
from tureen_training.runlog import ReportTo
from tureen_training.watch import THRESHOLDS, Threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(OracleOptions):
    """Train a policy against a reward service.

    policy: the causal language model to begin from, by name or path; it is the reference too. out: directory of the
        trained policy; log, responses, state and snapshots lie beside it, in `out`.run.
    prompts: JSON Lines files of {prompt or messages, id?, context?}; those that leave no room for a response are left
        out and counted.
    dense: rewards of the policy's own tokens; false puts all of a reward on the last token.
    steps; responses_per_step, over all processes; samples_per_prompt; chunks: in which they are sampled and scored.
    end_penalty: taken from the reward of a response that did not end within max_new_tokens.
    kl_coefficient: of k1 in the reward, per nat; kl_target_nats_per_response: makes it adaptive, null keeps it;
        kl_horizon_responses: see `kl.KlController`.
    discount, trace: γ and λ of the advantages. whiten_rewards: to variance 1, keeping their mean.
    epochs, minibatches: of the updates of one step. clip, value_clip: of the ratio and of the value.
    value_weight: of the value loss. entropy_bonus: weight of the entropy.
    stop_update_at_kl: ends the updates of a step when the policy has moved so many nats per token from where it
        sampled; null never does.
    learning_rate: of the policy, value_learning_rate: of the value network; both decay linearly to 0 after `warmup`, a
        share of the steps. value_warmup_steps: first steps, in which the value network alone learns.
    replay: files of {text} or {prompt, response}; replay_weight: γ of PPO-ptx, on the mean of a token; replay_ratio:
        records for each response of an update.
    tax_text, tax_cloze: files to measure the alignment tax on, before the first step, each `tax_steps` and at the
        end. averages: shares a at which (1 − a) start + a end is saved beside the policy, and measured.
    thresholds, raise_kl_by: see `watch.Threshold`.
    rows_per_forward: responses in one forward pass. snapshot_steps: keep the policy each so many steps; 0 never.
    state_steps: a state to resume from is kept each so many steps.
    report_to: none, tensorboard or trackio, beside metrics.jsonl. threads: of torch, 0 its own choice.
    """

    policy: str
    out: str
    prompts: tuple[str, ...]
    dense: bool = True
    steps: int = 200
    responses_per_step: int = 64
    samples_per_prompt: int = 1
    chunks: int = 4
    max_new_tokens: int = 48
    temperature: float = 1.0
    end_penalty: float = 1.0
    kl_coefficient: float = 0.05
    kl_target_nats_per_response: float | None = None
    kl_horizon_responses: int = 10_000
    discount: float = 1.0
    trace: float = 0.95
    whiten_rewards: bool = False
    epochs: int = 4
    minibatches: int = 4
    clip: float = 0.2
    value_clip: float = 0.2
    value_weight: float = 0.1
    entropy_bonus: float = 0.0
    stop_update_at_kl: float | None = None
    learning_rate: float = 1e-6
    value_learning_rate: float = 1e-5
    warmup: float = 0.0
    value_warmup_steps: int = 0
    replay: tuple[str, ...] = ()
    replay_weight: float = 1.0
    replay_ratio: float = 1.0
    tax_text: tuple[str, ...] = ()
    tax_cloze: tuple[str, ...] = ()
    tax_steps: int = 50
    averages: tuple[float, ...] = ()
    thresholds: tuple[Threshold, ...] = THRESHOLDS
    raise_kl_by: float = 1.5
    rows_per_forward: int = 32
    snapshot_steps: int = 0
    state_steps: int = 10
    seed: int = 0
    report_to: ReportTo = "none"
    threads: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "responses_per_step", "samples_per_prompt", "chunks", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        for name in ("minibatches", "rows_per_forward", "state_steps", "tax_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        for name in ("end_penalty", "replay_weight", "replay_ratio", "entropy_bonus"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        for name in ("discount", "trace"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in [0, 1]")
        for name in ("temperature", "clip", "value_clip", "value_weight"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.responses_per_step % self.samples_per_prompt:
            raise ValueError(
                f"responses_per_step is {self.responses_per_step}; it must be a multiple of "
                f"samples_per_prompt, {self.samples_per_prompt}"
            )
        if not 0 <= self.warmup < 1 or self.raise_kl_by <= 1:
            raise ValueError("warmup must be in [0, 1) and raise_kl_by above 1")
        if any(not 0 <= share <= 1 for share in self.averages):
            raise ValueError(f"averages are {self.averages}; each must be in [0, 1]")
