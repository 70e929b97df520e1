"""Options of the stage `rrhf`."""

from __future__ import annotations

from dataclasses import dataclass

from tureen_training.oracle import OracleOptions
from tureen_training.runlog import ReportTo
from tureen_training.watch import THRESHOLDS, Threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(OracleOptions):
    """Train a policy on ranked candidates, by RRHF.

    policy: the causal language model to begin from, by name or path; it is the reference too. out: directory of the
        trained policy; log, candidates and state lie beside it, in `out`.run.
    prompts: JSON Lines files of {prompt or messages, id?, context?}, and of responses to it, by people or from
        anywhere: {response}, or {responses, sources?, ended?}. Prompts that leave no room are left out and counted.
    sources: policies that write candidates once, `samples_per_source` each; `policy` may be one of them.
    resample_steps: 0 is offline: candidates are made and scored once. n is online: before each n steps the policy
        writes `samples_per_prompt` candidates anew, and all of these steps' prompts are scored together.
    max_new_tokens, temperature: of all sampling. end_penalty: taken from the reward of a response that did not end.
    kl_coefficient: online, β: candidates are ranked by reward − β · (log π − log π_start), as the policy stood when
        they were scored.
    epochs: over the prompts. prompts_per_step: with all their candidates, over all processes.
    rank_weight: of the ranking loss, beside the best response's with weight 1.
    learning_rate: decays linearly to 0 after `warmup`, a share of the steps.
    validation: files of prompts that the policy responds to at the start, each `validation_steps` and at the end.
    thresholds, raise_kl_by: see `watch.Threshold`; on the policy's own candidates online, on validation offline.
    prompts_per_request: sampled, and scored while the next ones are sampled. rows_per_forward: candidates in one
        forward pass; all of a prompt are in one.
    state_steps: a state to resume from is kept each so many steps.
    report_to: none, tensorboard or trackio, beside metrics.jsonl. threads: of torch, 0 its own choice.
    """

    policy: str
    out: str
    prompts: tuple[str, ...]
    sources: tuple[str, ...] = ()
    samples_per_source: int = 1
    resample_steps: int = 0
    samples_per_prompt: int = 4
    max_new_tokens: int = 48
    temperature: float = 1.0
    end_penalty: float = 1.0
    kl_coefficient: float = 0.0
    epochs: float = 3.0
    prompts_per_step: int = 64
    rank_weight: float = 1.0
    learning_rate: float = 2e-5
    warmup: float = 0.0
    validation: tuple[str, ...] = ()
    validation_steps: int = 50
    thresholds: tuple[Threshold, ...] = THRESHOLDS
    raise_kl_by: float = 1.5
    prompts_per_request: int = 64
    rows_per_forward: int = 64
    state_steps: int = 10
    seed: int = 0
    report_to: ReportTo = "none"
    threads: int = 0

    @property
    def online(self) -> bool:
        return self.resample_steps > 0

    def __post_init__(self) -> None:
        for name in ("samples_per_source", "samples_per_prompt", "prompts_per_step", "state_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        for name in ("prompts_per_request", "rows_per_forward", "validation_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        for name in ("resample_steps", "end_penalty", "kl_coefficient", "rank_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        for name in ("epochs", "temperature", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if not 0 <= self.warmup < 1 or self.raise_kl_by <= 1:
            raise ValueError("warmup must be in [0, 1) and raise_kl_by above 1")
        if not self.online and self.kl_coefficient:
            raise ValueError(
                f"kl_coefficient is {self.kl_coefficient} and resample_steps 0: offline candidates are ranked "
                "once, by their rewards; give resample_steps, or leave kl_coefficient at 0"
            )
        if not self.online and any(one.action == "raise_kl" for one in self.thresholds):
            raise ValueError(
                "a threshold raises the KL coefficient, which offline there is none of"
            )
