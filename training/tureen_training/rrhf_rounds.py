"""What RRHF learns from: rounds of candidates with their rewards, each part of a round a file of its own.

A part is written once it is scored and never made again, so that a run which was stopped in the middle of a round goes
on there, with the rewards it has.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn

from tureen.contracts import Score
from tureen.model.files import write_atomically
from tureen_training.candidates import Asked, Candidate, Ranked, ranked, responses_of, rollout_of
from tureen_training.experience import Rows, readings_of
from tureen_training.kl import estimates
from tureen_training.oracle import Reward, RewardOracle
from tureen_training.policies import Policy, Sampling
from tureen_training.rollout import Rollout, respond
from tureen_training.rrhf_config import Config
from tureen_training.watch import Facts, facts_of

OWN = "policy"
"""Source of what the policy in training wrote itself."""


@dataclass(frozen=True, slots=True)
class Row:
    """A candidate that can be learnt from.

    reward: as it is ranked by. log_ratio: log π − log π_start as it was scored, 0 offline.
    """

    rollout: Rollout
    reward: float
    log_ratio: float


@dataclass(frozen=True, slots=True)
class Round:
    """rows: of each prompt, by its place. facts: of what the policy wrote, for the watch and the log.

    fingerprints: of the weights that scored each part.
    """

    rows: Mapping[int, tuple[Row, ...]]
    figures: dict[str, Any]
    facts: list[Facts]
    fingerprints: list[str]

    def ranked(self, place: int, kl_coefficient: float) -> list[Row]:
        """The candidates of a prompt, by reward − β · (log π − log π_start)."""
        return [
            replace(row, reward=row.reward - kl_coefficient * row.log_ratio)
            for row in self.rows[place]
        ]


def seed_of(*parts: object) -> int:
    return random.Random(":".join(map(str, parts))).getrandbits(63)


def parts_of(places: Sequence[int], size: int) -> list[list[int]]:
    return [list(places[i : i + size]) for i in range(0, len(places), size)]


def write_by_sources(
    config: Config,
    asked: list[Asked],
    folder: Path,
    load: Callable[[str], Policy],
    rank: int,
    processes: int,
) -> None:
    """The candidates of `config.sources`, one policy in memory at a time; what is there already stays."""
    for number, source in enumerate(config.sources):
        policy: Policy | None = None
        for part, places in enumerate(parts_of(range(len(asked)), config.prompts_per_request)):
            path = folder / f"{number}-{part:06d}.json"
            if part % processes != rank or path.is_file():
                continue
            policy = policy or load(source)
            found = responses_of(
                policy,
                source,
                [asked[i].question for i in places],
                Sampling(max_new_tokens=config.max_new_tokens, temperature=config.temperature),
                each=config.samples_per_source,
                seed=seed_of(config.seed, "source", number, part),
                batch=config.rows_per_forward,
            )
            texts = [[[one.text, one.ended] for one in own] for own in found]
            write_json(path, texts)


def read_from_sources(config: Config, asked: list[Asked], folder: Path) -> list[Asked]:
    """With what `write_by_sources` wrote, in every process."""
    for number, source in enumerate(config.sources):
        for part, places in enumerate(parts_of(range(len(asked)), config.prompts_per_request)):
            texts = json.loads((folder / f"{number}-{part:06d}.json").read_text(encoding="utf-8"))
            for place, own in zip(places, texts, strict=True):
                candidates = [Candidate(text, ended, (source,)) for text, ended in own]
                asked[place] = asked[place].and_more(candidates)
    return asked


class Maker:
    """Makes the rounds of one run."""

    def __init__(
        self,
        config: Config,
        asked: Sequence[Asked],
        policy: Policy,
        reference: nn.Module,
        rows: Callable[[Sequence[Rollout]], Rows],
        oracle: RewardOracle,
        folder: Path,
    ) -> None:
        self._config, self._asked, self._policy, self._reference = config, asked, policy, reference
        self._rows, self._oracle, self._folder = rows, oracle, folder
        self._sampling = Sampling(
            max_new_tokens=config.max_new_tokens, temperature=config.temperature
        )
        self._waiting: list[tuple[Path, list[Asked], list[Rollout], Future[list[Reward]]]] = []

    def write(self, number: int, places: Sequence[int], rank: int, processes: int) -> None:
        """This process's parts of a round that are not there yet; one is scored while the next is sampled.

        Raises:
            OracleUnavailable, SoupSwapped: parts scored before are kept.
        """
        self._waiting.clear()
        for part, own in enumerate(parts_of(places, self._config.prompts_per_request)):
            path = self._path(number, part)
            if part % processes != rank or path.is_file():
                continue
            asked, written = self._sampled(number, part, own)
            samples = [sample for one in asked for sample in one.samples()]
            self._waiting.append((path, asked, written, self._oracle.submit(samples)))
            if len(self._waiting) > 1:
                self._finish()
        while self._waiting:
            self._finish()

    def read(self, number: int, places: Sequence[int]) -> Round:
        """A round that every process has written its parts of."""
        rows: dict[int, tuple[Row, ...]] = {}
        records: list[dict[str, Any]] = []
        fingerprints: list[str] = []
        too_long = 0
        for part, own in enumerate(parts_of(places, self._config.prompts_per_request)):
            stored = json.loads(self._path(number, part).read_text(encoding="utf-8"))
            fingerprints += [stored["fingerprint"]] if stored["fingerprint"] else []
            for place, record in zip(own, stored["prompts"], strict=True):
                found = list(self._learnable(place, record))
                too_long += sum(r is not None for r in record["rewards"]) - len(found)
                rows[place] = tuple(found)
                records.append(record)
        facts = [
            Facts(**{**one, "token_ids": tuple(one["token_ids"])})
            for record in records
            for one in record["facts"]
        ]
        return Round(
            rows, figures_of_round(records, rows) | {"too_long": too_long}, facts, fingerprints
        )

    def _path(self, number: int, part: int) -> Path:
        return self._folder / f"{number:06d}-{part:06d}.json"

    def _sampled(self, number: int, part: int, own: list[int]) -> tuple[list[Asked], list[Rollout]]:
        """The candidates of a part's prompts, and what the policy wrote now, where it does."""
        config, asked = self._config, [self._asked[i] for i in own]
        if not config.online:
            return asked, []
        each = config.samples_per_prompt
        questions = [one.question for one in asked for _ in range(each)]
        seed = seed_of(config.seed, OWN, number, part)
        written = respond(
            self._policy, questions, self._sampling, seed=seed, batch=config.rows_per_forward
        )
        fresh = [Candidate(one.sampled.text, one.sampled.ended, (OWN,)) for one in written]
        more = [one.and_more(fresh[i * each : (i + 1) * each]) for i, one in enumerate(asked)]
        return more, written

    def _finish(self) -> None:
        path, asked, written, future = self._waiting.pop(0)
        found = ranked(asked, future)
        prompts = [one.record() | {"log_ratios": [], "facts": []} for one in found]
        if self._config.online:
            self._read_networks(found, written, prompts)
        write_json(path, {"fingerprint": self._oracle.fingerprint, "prompts": prompts})

    def _read_networks(
        self, found: Sequence[Ranked], written: Sequence[Rollout], prompts: list[dict[str, Any]]
    ) -> None:
        """log π − log π_start of each candidate, and the facts of what the policy wrote."""
        tokenizer, each = self._policy.tokenizer, self._config.samples_per_prompt
        for i, (one, record) in enumerate(zip(found, prompts, strict=True)):
            by_text = dict(zip(_texts(one.asked), one.rewards, strict=True))
            own = written[i * each : (i + 1) * each]
            rewards: list[Reward] = [by_text[r.sampled.text, r.sampled.ended] for r in own]
            readings = self._readings(own)
            kl = estimates(readings.log_probs, readings.reference_log_probs)
            record["facts"] = [asdict(fact) for fact in facts_of(own, rewards, readings, kl)]
            scored = [isinstance(reward, Score) for reward in one.rewards]
            rollouts = [
                rollout_of(one.asked.question, candidate, tokenizer)
                for candidate, has in zip(one.asked.candidates, scored, strict=True)
                if has
            ]
            ratios: list[float] = []
            if rollouts:
                readings = self._readings(rollouts)
                difference = readings.log_probs - readings.reference_log_probs
                ratios = torch.where(readings.mask, difference, 0.0).sum(1).tolist()
            own_ratios = iter(ratios)
            record["log_ratios"] = [next(own_ratios) if has else None for has in scored]

    def _readings(self, rollouts: Sequence[Rollout]) -> Any:
        return readings_of(
            rollouts,
            self._policy.model,
            self._reference,
            None,
            self._rows,
            temperature=self._config.temperature,
            batch=self._config.rows_per_forward,
        )

    def _learnable(self, place: int, record: Mapping[str, Any]) -> Iterator[Row]:
        """Candidates that have a reward and fit into the policy's context."""
        question, room = self._asked[place].question, self._policy.context_tokens
        ratios = record["log_ratios"] or [0.0] * len(record["responses"])
        columns = (record["responses"], record["ended"], record["rewards"], ratios)
        for text, ended, reward, ratio in zip(*columns, strict=True):
            if reward is None:
                continue
            rollout = rollout_of(question, Candidate(text, ended, ()), self._policy.tokenizer)
            length = len(question.token_ids) + len(rollout.sampled.token_ids)
            if room is None or length <= room:
                yield Row(rollout, reward - (0.0 if ended else self._config.end_penalty), ratio)


def _texts(asked: Asked) -> list[tuple[str, bool]]:
    return [(one.text, one.ended) for one in asked.candidates]


def figures_of_round(
    records: Sequence[Mapping[str, Any]], rows: Mapping[int, Sequence[Row]]
) -> dict[str, Any]:
    """What was found out about the candidates.

    Returns:
        candidates; unscorable_frac, and by code; best: mean reward of each prompt's best; by source the mean reward
        and the share of prompts whose best it wrote. Rewards are as the service gave them.
    """
    rewards = [reward for record in records for reward in record["rewards"]]
    codes = [code for record in records for code in record["codes"] if code is not None]
    known = [reward for reward in rewards if reward is not None]
    figures: dict[str, Any] = {
        "prompts": len(records),
        "candidates": len(rewards),
        "oracle/unscorable_frac": len(codes) / max(1, len(rewards)),
        "learnable": sum(map(len, rows.values())),
    }
    for code in sorted(set(codes)):
        figures[f"oracle/unscorable/{code}"] = codes.count(code) / len(rewards)
    if not known:
        return figures
    scored = [record for record in records if any(r is not None for r in record["rewards"])]
    best = [max(r for r in record["rewards"] if r is not None) for record in scored]
    by_source: dict[str, list[float]] = {}
    won: Counter[str] = Counter()
    for record, highest in zip(scored, best, strict=True):
        winners: set[str] = set()
        for sources, reward in zip(record["sources"], record["rewards"], strict=True):
            if reward is None:
                continue
            for source in sources:
                by_source.setdefault(source, []).append(reward)
                winners |= {source} if reward == highest else set()
        won.update(winners)
    figures["reward/mean"] = fmean(known)
    figures["reward/best"] = fmean(best)
    figures["sources"] = {
        source: {"reward": fmean(own), "best": won[source] / len(best)}
        for source, own in sorted(by_source.items())
    }
    return figures


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
