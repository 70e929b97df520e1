"""The task of `toy` for language models: its sequences in words, who rewards them, and models that write them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Final

import numpy as np
import torch

from tureen.contracts import HeadScore, Limits, ModelInfo, Sample, Score, Uncertainty
from tureen_training import metrics, sft
from tureen_training.demo.toy import LENGTH, VOCABULARY, World
from tureen_training.demo.toy_rewards import Making, reward_models, scorer
from tureen_training.oracle import Reward, RewardOracle, Unscorable
from tureen_training.policies import Policy, Sampling, TinySpec, prompt_ids, sample
from tureen_training.worlds.almanac.dataset import tokenizer_of, write_jsonl

WORDS: Final = [a + b for a in "bdfgklmn" for b in "aeio"]
"""One token each."""
OTHER_WORDS: Final = "Question: Answer: The mate of is"
LEARNING_RATE: Final = 4e-3
SMALL: Final = TinySpec(layers=2, width=64, heads=2, context_tokens=48)


def sequence_of(text: str) -> list[int] | None:
    """The tokens of a response; None where it is no sequence of the task."""
    words = text.split()
    known = [WORDS.index(word) for word in words if word in WORDS]
    return known if len(known) == len(words) == LENGTH else None


def sequences_of(responses: Iterable[str]) -> list[list[int]]:
    """Those of the responses that are sequences; raises ValueError where none is."""
    read = [sequence_of(text) for text in responses]
    found = [tokens for tokens in read if tokens is not None]
    if not found:
        raise ValueError(
            f"none of {len(read)} responses is a sequence of {LENGTH} words; train the language models longer"
        )
    return found


def text_of(tokens: Sequence[int]) -> str:
    return " ".join(WORDS[token] for token in tokens)


class ToyOracle:
    """An ensemble of `toy` behind the trainer's interface: its mean, and how far its members are apart."""

    def __init__(self, world: World, seed: int, making: Making) -> None:
        self.fingerprint, self.swaps = f"sha256:toy-{seed}", []
        states = reward_models(world, seed, making)["one"]
        self._scored = scorer(world, states)
        self._members = len(states)

    def submit(self, samples: Sequence[Sample]) -> Future[list[Reward]]:
        future: Future[list[Reward]] = Future()
        future.set_result(self.score(samples))
        return future

    def score(self, samples: Sequence[Sample]) -> list[Reward]:
        read = [sequence_of(sample.responses[0]) for sample in samples]
        known = [tokens for tokens in read if tokens is not None]
        rewards = iter(self._scored(torch.tensor(known)).T.tolist() if known else ())
        return [
            Unscorable("invalid_request", f"a response has {LENGTH} words of the task")
            if tokens is None
            else self._score(next(rewards))
            for tokens in read
        ]

    def _score(self, members: list[float]) -> Score:
        mean = float(np.mean(members))
        spread = Uncertainty(
            std=float(np.std(members)), low=min(members), high=max(members), members=self._members
        )
        head = HeadScore(value=mean, calibrated=mean)
        return Score(reward=mean, heads={"preference": head}, uncertainty=spread, tokens=LENGTH)

    def info(self) -> ModelInfo:
        limits = {one.name: 1 for one in dataclasses.fields(Limits)}
        return ModelInfo(
            id="toy",
            fingerprint=self.fingerprint,
            soup="",
            base="toy",
            backend="toy",
            dtype="float32",
            device="cpu",
            members=self._members,
            temperature=1.0,
            heads=(),
            ingredients=(),
            data_licences=(),
            limits=Limits(**limits),
        )

    def close(self) -> None:
        """Holds nothing."""


def write_prompts(out: Path, count: int) -> None:
    """`prompts.jsonl`, each prompt one word, which means nothing, and the tokenizer."""
    prompts = [{"id": f"p{i}", "prompt": WORDS[i % VOCABULARY]} for i in range(count)]
    write_jsonl(out / "prompts.jsonl", prompts)
    tokenizer_of([OTHER_WORDS + " " + " ".join(WORDS)]).save_pretrained(out / "tokenizer")


def texts(world: World, count: int, of: int = 1) -> list[dict[str, str]]:
    """Demonstrations, each the best by gold of `of` usual sequences; of a negative number, the worst."""
    drawn = world.sequences(count * abs(of))
    gold = world.gold(drawn).view(count, abs(of)) * (1 if of > 0 else -1)
    chosen = drawn.view(count, abs(of), LENGTH)[torch.arange(count), gold.argmax(1)]
    return [
        {"prompt": WORDS[i % VOCABULARY], "response": text_of(tokens)}
        for i, tokens in enumerate(chosen.tolist())
    ]


def imitate(
    files: Iterable[Path], out: Path, name: str, policy: TinySpec, epochs: int, seed: int
) -> None:
    """A language model of random weights that learns to write what the files hold."""
    sft.main(
        sft.Config(
            data=tuple(map(str, files)),
            out=str(out / name),
            tiny=policy,
            tokenizer=str(out / "tokenizer"),
            epochs=epochs,
            learning_rate=LEARNING_RATE,
            prompts_per_step=64,
            seed=seed,
            threads=1,
        )
    )


def judged(
    policy: Policy, world: World, oracle: RewardOracle, count: int, seed: int
) -> dict[str, float]:
    """Gold and reward of so many responses, and the share that are sequences of the task."""
    asked = [prompt_ids(policy.tokenizer, WORDS[i % VOCABULARY]) for i in range(count)]
    said = sample(policy, asked, Sampling(max_new_tokens=LENGTH + 1), seed=seed)
    read = sequences_of(one.text for one in said)
    rewards = oracle.score([Sample(prompt="", responses=(text_of(one),)) for one in read])
    return {
        "gold": float(world.gold(torch.tensor(read)).mean()),
        "reward": float(np.mean([one.reward for one in rewards if isinstance(one, Score)])),
        "whole": len(read) / len(said),
    }


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean over seeds, and its 95 % interval."""
    return metrics.mean(metrics.singly(np.array(values)), baselines={"no change": 0.0}).interval()
