"""Stage `best-of-n`: the best of n responses in the eyes of a running Tureen service, and what n is worth.

Nothing is trained. N responses to each prompt are sampled and scored, the favourite of each is written down, and for
n up to N the expected reward of the best of n is estimated without bias. With `gold`, a second service that took no
part in choosing, also what the favourites are worth to it: where the reward rises with n and gold no longer does, the
reward is being exploited.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tureen.contracts import Score
from tureen.model.files import write_atomically
from tureen_training import plots, resume
from tureen_training.candidates import Asked, Candidate, Ranked
from tureen_training.journal import journal
from tureen_training.metrics import mean, singly
from tureen_training.oracle import OracleOptions, Reward, RewardOracle, connected
from tureen_training.policies import Sampling, load_policy
from tureen_training.rollout import Rollout, read_questions, respond
from tureen_training.runlog import progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(OracleOptions):
    """Sample, score and choose.

    policy: a causal language model, by name or path. prompts: JSON Lines files of {prompt or messages, id?, context?};
        those that leave no room for a response are left out and counted.
    out: directory of samples.jsonl (all responses with their rewards), best.jsonl (of each prompt the favourite, as
        fine-tuning reads it), report.json and best-of-n.png. A run that was stopped goes on from parts.jsonl.
    samples: N, responses to each prompt. sizes: the n that are reported; none given, the powers of 2 up to N.
    gold: address of a second service, which judges and does not choose; its options are those of the first.
    max_new_tokens, temperature, seed: of sampling.
    prompts_per_request: sampled, and scored while the next ones are sampled.
    rows_per_forward: responses sampled at once.
    threads: of torch, 0 its own choice.
    """

    policy: str
    out: str
    prompts: tuple[str, ...]
    samples: int = 16
    sizes: tuple[int, ...] = ()
    gold: str = ""
    max_new_tokens: int = 48
    temperature: float = 1.0
    prompts_per_request: int = 16
    rows_per_forward: int = 64
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        for name in ("samples", "prompts_per_request", "rows_per_forward"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if any(not 1 <= n <= self.samples for n in self.sizes):
            raise ValueError(f"sizes are {self.sizes}; each must be in 1 … {self.samples}, samples")
        if not self.temperature > 0:
            raise ValueError(
                f"temperature is {self.temperature}; it must be above 0 to have a choice"
            )


def main(config: Config) -> None:
    with contextlib.ExitStack() as stack:
        oracle = stack.enter_context(contextlib.closing(connected(config)))
        gold = None
        if config.gold:
            judge = dataclasses.replace(config, oracle=config.gold)
            gold = stack.enter_context(contextlib.closing(connected(judge)))
        report = chosen(config, oracle, gold)
    print(json.dumps(report, allow_nan=False))  # noqa: T201 - the answer of the command


def chosen(config: Config, oracle: RewardOracle, gold: RewardOracle | None) -> dict[str, Any]:
    """The stage, with rewards from `oracle`; writes everything and returns the report.

    Raises:
        OracleUnavailable, SoupSwapped: what was scored is kept, and the same call goes on from there.
        ValueError: what is in `out` is of another configuration.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    out = Path(config.out)
    policy = load_policy(config.policy)
    context = policy.context_tokens
    room = None if context is None else context - config.max_new_tokens
    questions, too_long = read_questions(config.prompts, policy.tokenizer, room)
    if not questions:
        raise ValueError(f"every prompt of {', '.join(config.prompts)} has over {room} tokens")
    sampling = Sampling(max_new_tokens=config.max_new_tokens, temperature=config.temperature)

    def sampled(first: int) -> list[Rollout]:
        some = questions[first : first + config.prompts_per_request]
        repeated = [question for question in some for _ in range(config.samples)]
        seed = config.seed * len(questions) + first
        return respond(policy, repeated, sampling, seed=seed, batch=config.rows_per_forward)

    with journal(out / "parts.jsonl") as (known, write):
        run = resume.identity(config)
        if known:
            resume.same_run(out / "parts.jsonl", known[0]["config"], run)
        else:
            write({"config": run})
        records = [record for part in known[1:] for record in part["prompts"]]
        waiting: list[tuple[list[Rollout], list[Future[list[Reward]]]]] = []

        def finish() -> None:
            rollouts, asked = waiting.pop(0)
            rewards, *judged = [future.result() for future in asked]
            part = list(written(rollouts, rewards, judged[0] if judged else None, config.samples))
            write({"prompts": part})
            records.extend(part)

        parts = range(len(records), len(questions), config.prompts_per_request)
        for first in progress(parts, "best-of-n"):
            rollouts = sampled(first)
            samples = [one.sample(dense=False) for one in rollouts]
            waiting.append((rollouts, [one.submit(samples) for one in (oracle, gold) if one]))
            if len(waiting) > 1:
                finish()
        while waiting:
            finish()

    sizes = config.sizes or [2**i for i in range(config.samples.bit_length())]
    report = {
        "prompts": len(questions),
        "too_long": too_long,
        "samples": config.samples,
        "oracle/unscorable_frac": float(
            np.mean([r is None for own in records for r in own["rewards"]])
        ),
        "best_of_n": [figures(records, n) for n in sizes],
    }
    best = [json.dumps(one, ensure_ascii=False) for one in map(favourite, records) if one]
    every = [json.dumps(one, ensure_ascii=False) for one in records]
    for name, lines in (("samples", every), ("best", best)):
        write_atomically(out / f"{name}.jsonl", "".join(line + "\n" for line in lines))
    write_atomically(out / "report.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    draw(report["best_of_n"], out / "best-of-n.png")
    return report


def written(
    rollouts: Sequence[Rollout], rewards: Sequence[Reward], gold: Sequence[Reward] | None, each: int
) -> Iterator[dict[str, Any]]:
    """One record a prompt: its responses, what the service said of each, and what the second one did."""
    for first in range(0, len(rollouts), each):
        own = rollouts[first : first + each]
        candidates = [Candidate(one.sampled.text, one.sampled.ended, ("policy",)) for one in own]
        asked = Asked(own[0].question, tuple(candidates))
        record = Ranked(asked, tuple(rewards[first : first + each])).record()
        if gold is not None:
            judged = gold[first : first + each]
            record["gold"] = [one.reward if isinstance(one, Score) else None for one in judged]
        yield record


def favourite(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first response of the highest reward, as fine-tuning reads it; None where none has a reward."""
    scored = [i for i, reward in enumerate(record["rewards"]) if reward is not None]
    if not scored:
        return None
    best = max(scored, key=lambda i: record["rewards"][i])
    asked = {
        name: record[name] for name in ("id", "prompt", "messages", "context") if name in record
    }
    return asked | {"response": record["responses"][best], "reward": record["rewards"][best]}


def figures(records: Sequence[Mapping[str, Any]], n: int) -> dict[str, Any]:
    """What the best of n are worth, with intervals over prompts.

    Returns:
        n; kl_nats_per_response; prompts: those with n responses that both services could score; reward, and gold
        where there is one: value, low, high, and of_one: what one response is worth on the same prompts.
    """
    found: dict[str, Any] = {"n": n, "kl_nats_per_response": kl_of_best_of_n(n), "prompts": 0}
    rows: list[tuple[np.ndarray, np.ndarray]] = []
    for record in records:
        judged = record.get("gold", record["rewards"])
        both = zip(record["rewards"], judged, strict=True)
        known = [pair for pair in both if None not in pair]
        if len(known) >= n:
            reward, gold = np.array(known, dtype=np.float64).T
            rows.append((reward, gold))
    if not rows:
        return found
    found["prompts"] = len(rows)
    wanted = {"reward": 0} | ({"gold": 1} if "gold" in records[0] else {})
    for name, place in wanted.items():
        values = np.array([best_of_n(row[0], row[place], n) for row in rows])
        one = float(np.mean([row[place].mean() for row in rows]))
        figure = mean(singly(values), baselines={"one": one})
        found[name] = {**figure.interval(), "of_one": one}
    return found


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    figure, axes = plots.figure("KL(best-of-n ‖ policy), nats per response", "expected score")
    for name in ("reward", "gold"):
        known = [row for row in rows if name in row]
        if known:
            x = [row["kl_nats_per_response"] for row in known]
            axes.plot(x, [row[name]["value"] for row in known], "o-", label=name)
            low, high = ([row[name][end] for row in known] for end in ("low", "high"))
            axes.fill_between(x, low, high, alpha=0.2)
    plots.save(figure, path)


def best_of_n(proxy: np.ndarray, gold: np.ndarray, n: int) -> float:
    """Expected gold score of the response that the proxy likes best among n, from N ≥ n samples of one prompt.

        Ê_n = Σ_{i=n}^{N} C(i−1, n−1) / C(N, n) · gold(S_i),   S sorted by proxy, ascending

    Unbiased: the mean over all subsets of n (Gao, Schulman and Hilton, arXiv:2210.10760, appendix I). Where the
    proxy does not tell samples apart, each of them is taken equally often: they share their mean gold score, which
    is the expectation of breaking ties at random.

    Args:
        proxy, gold: scores of the same samples. Shape: (N,)
        n: from 1, the plain mean, to N, the gold score of the proxy's favourite.
    """
    if proxy.shape != gold.shape or proxy.ndim != 1:
        raise ValueError(
            f"proxy and gold must have one shape (N,), got {proxy.shape} and {gold.shape}"
        )
    samples = len(proxy)
    if not 1 <= n <= samples:
        raise ValueError(f"n is {n}; of {samples} samples it must be in 1 … {samples}")
    _, tied, counts = np.unique(proxy, return_inverse=True, return_counts=True)
    shared = (np.bincount(tied, weights=gold) / counts)[tied]
    ranked = shared[np.argsort(proxy, kind="stable")]
    log_share = [_log_choose(i - 1, n - 1) - _log_choose(samples, n) for i in range(n, samples + 1)]
    return float(np.exp(log_share) @ ranked[n - 1 :])


def kl_of_best_of_n(n: int) -> float:
    """KL(best-of-n ‖ policy) in nats per response, without ties: log n − (n − 1) / n."""
    return math.log(n) - (n - 1) / n


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
