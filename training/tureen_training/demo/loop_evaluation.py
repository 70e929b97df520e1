"""What the gold judge says of the policies of demo `loop`, after their training."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from tureen.contracts import Sample, Score
from tureen_training.metrics import auroc, bootstrap, mean, singly
from tureen_training.oracle import RemoteOracle, Reward
from tureen_training.policies import Policy, Sampling, load_policy, prompt_ids, sample
from tureen_training.worlds.almanac import gold
from tureen_training.worlds.almanac.dataset import read_items
from tureen_training.worlds.almanac.world import Item

MAX_NEW_TOKENS: Final = 40
HEADS: Final = ("factuality", "relevance", "completeness", "preference")


def respond(policy: Policy, items: Sequence[Item], temperature: float, seed: int) -> list[str]:
    prompts = [prompt_ids(policy.tokenizer, item.prompt, item.context) for item in items]
    sampling = Sampling(max_new_tokens=MAX_NEW_TOKENS, temperature=temperature)
    return [one.text for one in sample(policy, prompts, sampling, seed=seed)]


def evaluated(out: Path, address: str, *, curve_prompts: int, seed: int) -> dict[str, Any]:
    """SFT against PPO on the test prompts, and the policies on the way from one to the other."""
    test = read_items(out / "world/gold/test.jsonl")
    policies = {name: load_policy(out / name) for name in ("sft", "ppo")}
    report: dict[str, Any] = {}
    texts: dict[str, list[str]] = {}
    for temperature, part in ((1.0, report), (0.0, report.setdefault("greedy", {}))):
        said = {name: respond(one, test, temperature, seed) for name, one in policies.items()}
        part |= compared({n: judged(test, responses) for n, responses in said.items()})
        texts = texts or said
    with RemoteOracle(address, patience_s=60.0) as oracle:
        rewards = {
            name: oracle.score([sample_of(*pair) for pair in zip(test, own, strict=True)])
            for name, own in texts.items()
        }
    report["reward"] = {name: mean_reward(own) for name, own in rewards.items()}
    report["heads"] = heads_against_gold(test, texts["sft"], rewards["sft"])
    report["samples"] = [
        {
            "prompt": item.prompt,
            "context": list(item.context),
            **{name: shown(texts[name][i], rewards[name][i], item) for name in policies},
        }
        for i, item in enumerate(test[:12])
    ]
    records = records_of(out / "ppo.run")
    steps = [record for record in records if record["event"] == "step"]
    taxed = [record for record in records if record["event"] == "tax"]
    last = steps[-5:]
    report["tax"] = {
        name: {"sft": taxed[0][name], "ppo": taxed[-1][name]} for name in ("perplexity", "cloze")
    }
    report["wait_share"] = sum(
        step["oracle/wait_share"] * step["time/step_s"] for step in steps
    ) / sum(step["time/step_s"] for step in steps)
    report["alarms"] = [record for record in records if record["event"] == "alarm"]
    report["kl"] = float(np.mean([record["kl/k1_nats_per_response"] for record in last]))
    report["kl_unit"] = f"nats per response to training prompts, mean of the last {len(last)} steps"
    report["curve"] = list(curve(out, steps, curve_prompts, seed))
    return report


def curve(
    out: Path, steps: Sequence[Mapping[str, Any]], prompts: int, seed: int
) -> Iterator[dict[str, float]]:
    """Gold score on validation prompts of each policy that was kept, beside reward and KL of its step."""
    items = read_items(out / "world/gold/validation.jsonl")[:prompts]
    by_step = {record["step"]: record for record in steps}
    snapshots = {step: out / f"ppo.run/snapshots/{step:06d}" for step in by_step}
    kept = {0: out / "sft"} | {step: path for step, path in snapshots.items() if path.is_dir()}
    for step, path in kept.items():
        rows = judged(items, respond(load_policy(path), items, 1.0, seed))
        record = by_step[max(1, step)]
        yield {
            "step": step,
            "kl": record["kl/k1_nats_per_response"],
            "reward": record["reward/mean"],
            **{name: float(values.mean()) for name, values in rows.items()},
        }


def judged(items: Sequence[Item], responses: Sequence[str]) -> dict[str, np.ndarray]:
    return gold.rows(gold.judge(*pair) for pair in zip(items, responses, strict=True))


def compared(rows: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """Means of both policies, and the interval of the change, paired by prompt.

    Of an error also the ratio PPO / SFT of its rate; halved where the whole interval is at most 0.5.
    """

    def change(name: str) -> dict[str, float]:
        paired = rows["ppo"][name] - rows["sft"][name]  # (prompts,)
        return mean(singly(paired), baselines={"no change": 0.0}).interval()

    def ratio(name: str) -> dict[str, float] | None:
        paired = np.stack([rows["sft"][name], rows["ppo"][name]], axis=1)
        if not paired[:, 0].any():
            return None
        found = bootstrap(
            list(paired[:, None]),
            lambda drawn: float(drawn[:, 1].sum() / max(drawn[:, 0].sum(), 1)),
            baselines={"no change": 1.0},
        )
        return found.interval()

    def means(name: str) -> dict[str, float]:
        return {policy: float(own[name].mean()) for policy, own in rows.items()}

    return {
        "gold": means("score") | {"change": change("score")},
        "perfect": means("perfect_rate") | {"change": change("perfect_rate")},
        "errors": {
            error: means(f"{error}_rate")
            | {"change": change(f"{error}_rate"), "ratio": ratio(f"{error}_rate")}
            for error in gold.ERRORS
        },
        "prompts": len(rows["sft"]["score"]),
    }


def sample_of(item: Item, response: str) -> Sample:
    return Sample(id=item.id, prompt=item.prompt, context=item.context, responses=(response,))


def heads_against_gold(
    items: Sequence[Item], texts: Sequence[str], rewards: Sequence[Reward]
) -> dict[str, float | None]:
    """AUROC of each head's own errors: wrong and unasked sentences, responses with a fact missing, any error.

    None where there is no error or nothing else.
    """
    rows: dict[str, list[tuple[float, bool]]] = {name: [] for name in HEADS}
    for item, text, scored in zip(items, texts, rewards, strict=True):
        if not isinstance(scored, Score):
            continue
        own = gold.judge(item, text)
        spans = {"factuality": own.wrong_spans, "relevance": own.unasked_spans}
        for one in scored.segments or ():
            if one.head in spans:
                erring = any(s.start < one.end and one.start < s.end for s in spans[one.head])
                rows[one.head].append((one.value, not erring))
        rows["completeness"].append((scored.heads["completeness"].value, not own.missing_facts))
        rows["preference"].append((scored.heads["preference"].value, own.score == 1))
    found = {name: auroc(np.array(pairs, dtype=float)) for name, pairs in rows.items()}
    return {name: None if np.isnan(value) else value for name, value in found.items()}


def mean_reward(rewards: Sequence[Reward]) -> dict[str, float]:
    """Of those the service could score, and the share that it could not."""
    scored = [one for one in rewards if isinstance(one, Score)]
    names = scored[0].heads
    return {
        "mean": float(np.mean([one.reward for one in scored])),
        **{name: float(np.mean([one.heads[name].calibrated for one in scored])) for name in names},
        "unscorable": 1 - len(scored) / len(rewards),
    }


def shown(text: str, scored: Reward, item: Item) -> dict[str, Any]:
    """One response for the report, with what each head says of its segments."""
    segments = (scored.segments or ()) if isinstance(scored, Score) else ()
    return {
        "text": text,
        "gold": gold.judge(item, text).score,
        "reward": scored.reward if isinstance(scored, Score) else None,
        "segments": [[s.head, s.start, s.end, s.reward] for s in segments],
    }


def records_of(run: Path) -> list[dict[str, Any]]:
    """What a stage logged. run: the directory beside what it made, `.run` at its end."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
