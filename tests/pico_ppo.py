"""Runs of the stage `ppo` that take a second or two: a policy of one layer, a dozen words, rewards by hand."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from model_info import model_info

from tureen.contracts import HeadScore, ModelInfo, Sample, Score, Uncertainty
from tureen_training.oracle import OracleUnavailable, Reward, Unscorable
from tureen_training.policies import (
    Policy,
    TinySpec,
    prompt_ids,
    response_ids,
    save_policy,
    tiny_policy,
)
from tureen_training.ppo import Config, train
from tureen_training.replay import text_losses
from tureen_training.rollout import Question
from tureen_training.sft import IGNORED
from tureen_training.worlds.almanac.dataset import tokenizer_of

WORDS = "sky sea red green blue white the is"
PROMPTS = [f"the {thing} is" for thing in ("sky", "sea", "red sky", "white sea")]
UNSTEADY = ("elapsed_s", "time/step_s", "time/sampling_s", "oracle/wait_share")


def policy(directory: Path, said: str = WORDS) -> Policy:
    """Says a few of the words at random and ends; saved in `directory`."""
    tokenizer = tokenizer_of(
        [f"Passages: Question: Answer: {WORDS} {prompt}" for prompt in PROMPTS]
    )
    made = tiny_policy(TinySpec(layers=1, width=32, heads=2, context_tokens=64), tokenizer, seed=0)
    draw = random.Random(0)
    optimiser = torch.optim.AdamW(made.model.parameters(), lr=0.02)
    for _ in range(40):
        texts = []
        for prompt in PROMPTS * 4:
            asked = prompt_ids(tokenizer, prompt)
            words = " ".join(draw.choices(said.split(), k=draw.randint(2, 5)))
            own = response_ids(tokenizer, words)
            texts.append({"input_ids": asked + own, "labels": [IGNORED] * len(asked) + own})
        optimiser.zero_grad()
        text_losses(made.model, texts, "cpu").mean().backward()
        optimiser.step()
    save_policy(made, directory, {"stage": "sft", "base": "words"})
    return made


def directory(root: Path) -> Path:
    """A policy and files under `root`, for `config`."""
    policy(root / "policy")
    write(root / "prompts.jsonl", [{"id": p, "prompt": p} for p in PROMPTS])
    write(root / "text.jsonl", [{"text": f"the {w} is {w}"} for w in WORDS.split()])
    cloze = [{"prompt": "the sky is", "answer": "blue", "choices": ["blue", "red sea"]}]
    write(root / "cloze.jsonl", cloze)
    return root


def write(path: Path, records: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def config(root: Path, name: str, **changes: Any) -> Config:
    """Of a short run under `root`."""
    defaults: dict[str, Any] = {
        "policy": str(root / "policy"),
        "out": str(root / name),
        "prompts": (str(root / "prompts.jsonl"),),
        "steps": 4,
        "responses_per_step": 16,
        "chunks": 2,
        "max_new_tokens": 6,
        "epochs": 2,
        "minibatches": 2,
        "learning_rate": 3e-3,
        "value_learning_rate": 3e-3,
        "state_steps": 2,
        "threads": 1,
    }
    return Config(**defaults | changes)


def events(root: Path, name: str) -> list[dict[str, Any]]:
    """What the run logged, without the times."""
    records = read(root / f"{name}.run" / "metrics.jsonl")
    return [{k: v for k, v in record.items() if k not in UNSTEADY} for record in records]


def steps(root: Path, name: str) -> list[dict[str, Any]]:
    return [record for record in events(root, name) if record["event"] == "step"]


def run(root: Path, name: str, oracle: Any, **changes: Any) -> list[dict[str, Any]]:
    train(config(root, name, **changes), oracle)
    return steps(root, name)


class Rewarding:
    """Rewards every token by what `worth` says of its text; what has no text cannot be scored.

    available: batches that are answered before the service is gone.
    """

    def __init__(
        self, worth: Callable[[str], float], *, available: float = float("inf"), std: float = 0.5
    ) -> None:
        self.fingerprint, self.swaps = "sha256:toy", []
        self.asked: list[Sample] = []
        self._worth, self._available, self._std = worth, available, std

    def submit(self, samples: Sequence[Sample]) -> Future[list[Reward]]:
        future: Future[list[Reward]] = Future()
        self._available -= 1
        if self._available < 0:
            future.set_exception(OracleUnavailable("Nobody answers."))
        else:
            self.asked += samples
            future.set_result([self._reward(sample) for sample in samples])
        return future

    def score(self, samples: Sequence[Sample]) -> list[Reward]:
        return self.submit(samples).result()

    def _reward(self, sample: Sample) -> Reward:
        [text] = sample.responses
        if not text.strip():
            return Unscorable("invalid_request", "responses[0] is blank")
        tokens = None
        if sample.offsets is not None and sample.offsets[0]:
            tokens = tuple(self._worth(text[start:end]) for start, end in sample.offsets[0])
        reward = sum(tokens) if tokens else sum(self._worth(word) for word in text.split())
        return Score(
            reward=reward,
            heads={"words": HeadScore(value=reward, calibrated=reward)},
            uncertainty=Uncertainty(std=self._std, low=0.0, high=1.0, members=3),
            token_rewards=tokens,
            tokens=len(text),
        )

    def info(self) -> ModelInfo:
        return model_info(fingerprint=self.fingerprint, base="words", members=3)

    def close(self) -> None:
        """Holds nothing."""


def blue(text: str) -> float:
    return float(text.strip() == "blue")


def nothing(text: str) -> float:
    return 0.0


def question(tokenizer: Any, prompt: str) -> Question:
    return Question(prompt, prompt, None, (), tuple(prompt_ids(tokenizer, prompt)))
