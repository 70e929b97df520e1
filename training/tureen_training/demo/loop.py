"""The whole loop on the Almanac: SFT, reward models, soup, a server process, PPO over gRPC, evaluation.

    pretraining text and demonstrations  -> a small policy that makes its teachers' errors
    rankings and spans of three raters   -> three reward models with one start -> their soup
        (of responses that this policy gave, and of others made up)
    tureen serve SOUP                    -> a process of its own
    PPO against its gRPC door            -> a policy
    gold judge on prompts of entities that nobody trained on -> report.json, report.html, plots

The gold judge reads responses at the end and of the policies that PPO kept on its way; no stage of training sees it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

from tureen.contracts import Granularity
from tureen.model.base import MINILM, WEIGHTS, resolve_base
from tureen.model.checkpoint import load
from tureen.model.drift import reward_reference
from tureen.model.files import replacing, sha256_file, write_atomically
from tureen.model.manifest import TOKENIZER_FILES, BaseRef, HeadSpec, write_manifest
from tureen.model.soup import make_soup
from tureen.text.encoding import TextEncoder
from tureen_training import ppo, reward, sft
from tureen_training.data.corpora import Use, open_corpus
from tureen_training.data.items import run
from tureen_training.data.records import Split
from tureen_training.data.sets import Source, encode_all
from tureen_training.demo import loop_report
from tureen_training.demo.loop_evaluation import MAX_NEW_TOKENS, evaluated, records_of, respond
from tureen_training.demo.service import serving
from tureen_training.evaluate import as_record
from tureen_training.evaluation.qa_feedback import fit_scales, measure
from tureen_training.evaluation.scorers import forward_of
from tureen_training.policies import TinySpec, load_policy
from tureen_training.runlog import RunLog
from tureen_training.soup import rewards_of
from tureen_training.worlds.almanac.dataset import Sizes, feedback, write, write_jsonl
from tureen_training.worlds.almanac.errors import Habits
from tureen_training.worlds.almanac.world import Item, make_world

RATERS: Final = ("checker", "editor", "examiner")
"""Whose feedback makes an ingredient each."""
HEADS: Final = (
    HeadSpec(name="preference", granularity=Granularity.RESPONSE, weight=0.05),
    HeadSpec(name="factuality", granularity=Granularity.SENTENCE, weight=0.25),
    HeadSpec(name="relevance", granularity=Granularity.SENTENCE, weight=0.45),
    HeadSpec(name="completeness", granularity=Granularity.RESPONSE, weight=0.25),
)
TEXT: Final = dataclasses.replace(reward.QA_TEXT, max_input_tokens=256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Run the whole loop.

    out: directory of everything; the states of an earlier run there are removed, and it begins anew.
    sizes, habits: of the Almanac. policy: size of the policy.
    sft_epochs, sft_learning_rate: on pretraining text and demonstrations together.
    sampled: responses of the policy among the candidates that raters see of each prompt.
    reward_layers: of MiniLM, from the first, that the reward models have; all of them train.
    reward_epochs, reward_learning_rate: of an ingredient; the shared start has one epoch.
    steps, responses_per_step, kl_coefficient, learning_rate: of PPO.
    snapshots: policies that PPO keeps on its way, for the curve of gold against KL.
    curve_prompts: validation prompts of a point of that curve.
    threads: of torch, 0 its own choice; the networks are too small for two, and the service has the other core.
    """

    out: str
    sizes: Sizes = field(default_factory=lambda: Sizes(feedback=800))
    habits: Habits = field(default_factory=Habits)
    policy: TinySpec = field(
        default_factory=lambda: TinySpec(layers=3, width=64, heads=4, convolution=5)
    )
    sft_epochs: int = 2
    sft_learning_rate: float = 5e-3
    sampled: int = 2
    reward_layers: int = 2
    reward_epochs: int = 2
    reward_learning_rate: float = 2e-4
    steps: int = 60
    responses_per_step: int = 64
    kl_coefficient: float = 0.03
    learning_rate: float = 1e-3
    snapshots: int = 5
    curve_prompts: int = 150
    seed: int = 0
    threads: int = 1


def main(config: Config) -> dict[str, Any]:
    """Run everything, write report.json and report.html; returns the report."""
    out = Path(config.out).resolve()
    for states in ("sft.run", "rewards", "ppo.run"):
        shutil.rmtree(out / states, ignore_errors=True)
    log = RunLog(out / "metrics.jsonl")
    if config.threads:
        torch.set_num_threads(config.threads)
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        seconds[name] = round(time.monotonic() - began, 1)
        log.write("stage", name=name, seconds=seconds[name])

    with stage("world"):
        write(out / "world", config.sizes, config.habits, config.seed)
    with stage("sft"):
        sft.main(sft_config(config, out))
    with stage("feedback"):
        ask_raters(config, out)
    with stage("reward models"):
        start = reward_config(config, out, "start", trim_base(out / "base", config.reward_layers))
        reward.main(start)
        for number, rater in enumerate(RATERS, start=1):
            reward.main(
                dataclasses.replace(
                    start,
                    name=rater,
                    out=str(out / "rewards" / rater),
                    start=start.out,
                    sources=(source_of(rater),),
                    epochs=config.reward_epochs,
                    seed=config.seed + number,
                )
            )
    with stage("soup"):
        reward_figures = soup_of(out, [str(out / "rewards" / rater) for rater in RATERS])
    with serving(out / "soup", out / "server.log") as address:
        log.write("served", address=address)
        with stage("ppo"):
            ppo.main(ppo_config(config, out, address))
        with stage("evaluation"):
            report = evaluated(out, address, curve_prompts=config.curve_prompts, seed=config.seed)
    report |= {
        "reward_model": reward_figures,
        "seconds": seconds | {"all": round(sum(seconds.values()), 1)},
        "config": dataclasses.asdict(config),
    }
    write_atomically(out / "report.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    loop_report.write_html(report, records_of(out / "ppo.run"), out)
    loop_report.show(report, out)
    return report


def ask_raters(config: Config, out: Path) -> None:
    """Feedback on responses of the policy, as those who align one collect it."""
    policy = load_policy(out / "sft")

    def sampled(items: Sequence[Item]) -> list[list[str]]:
        asked = [item for item in items for _ in range(config.sampled)]
        said = respond(policy, asked, 1.0, config.seed)
        return [said[i : i + config.sampled] for i in range(0, len(said), config.sampled)]

    world = make_world(names=config.sizes.names, seed=config.seed)
    for name, records in feedback(world, config.sizes, config.seed, sampled).items():
        write_jsonl(out / f"world/{name}.jsonl", records)


def sft_config(config: Config, out: Path) -> sft.Config:
    return sft.Config(
        data=(str(out / "world/replay.jsonl"), str(out / "world/sft.jsonl")),
        out=str(out / "sft"),
        tiny=config.policy,
        tokenizer=str(out / "world/tokenizer"),
        epochs=config.sft_epochs,
        learning_rate=config.sft_learning_rate,
        weight_decay=0.01,
        prompts_per_step=8,  # with twice as many some seeds have not learnt to read values when it ends
        seed=config.seed,
    )


def reward_config(config: Config, out: Path, name: str, base: BaseRef) -> reward.Config:
    """Of the shared start, which learns from what the whole panel said."""
    return reward.Config(
        data=str(out / "world/feedback"),
        out=str(out / "rewards" / name),
        name=name,
        base=base,
        text=TEXT,
        heads=HEADS,
        sources=(source_of("panel"),),
        context_words=0,
        trained_layers=config.reward_layers,
        epochs=1,
        learning_rate=config.reward_learning_rate,
        head_learning_rate=1e-2,  # the heads begin near nothing: evidence is read within an epoch
        prompts_per_step=4,
        probe_prompts=50,
        probe_steps=20,
        cache=str(out / "cache"),
        seed=config.seed,
    )


def source_of(rater: str) -> Source:
    return Source(name="own", path=f"{rater}.jsonl", licence="synthetic: the Almanac")


def ppo_config(config: Config, out: Path, address: str) -> ppo.Config:
    return ppo.Config(
        policy=str(out / "sft"),
        out=str(out / "ppo"),
        prompts=(str(out / "world/prompts_train.jsonl"),),
        oracle=address,
        steps=config.steps,
        responses_per_step=config.responses_per_step,
        chunks=2,
        max_new_tokens=MAX_NEW_TOKENS,
        kl_coefficient=config.kl_coefficient,
        epochs=2,
        minibatches=4,
        learning_rate=config.learning_rate,
        value_learning_rate=1e-3,
        value_warmup_steps=min(5, config.steps // 10),
        replay=(str(out / "world/rehearsal.jsonl"),),
        replay_ratio=0.5,
        tax_text=(str(out / "world/replay_validation.jsonl"),),
        tax_cloze=(str(out / "world/cloze.jsonl"),),
        rows_per_forward=config.responses_per_step,
        snapshot_steps=max(1, config.steps // config.snapshots),
        state_steps=max(1, config.steps // config.snapshots),
        seed=config.seed,
    )


def trim_base(directory: Path, layers: int) -> BaseRef:
    """MiniLM with its first layers alone, as a base of its own: small enough for minutes."""
    source = resolve_base(MINILM)
    settings = json.loads((source / "config.json").read_text(encoding="utf-8"))
    above = [f"encoder.layer.{n}." for n in range(layers, settings["num_hidden_layers"])]
    settings["num_hidden_layers"] = layers
    weights = {
        name: tensor
        for name, tensor in load_file(source / WEIGHTS).items()
        if not any(part in name for part in above)
    }
    with replacing(directory) as fresh:
        (fresh / "config.json").write_text(json.dumps(settings), encoding="utf-8")
        save_file(weights, fresh / WEIGHTS, {"format": "pt"})
        for name in TOKENIZER_FILES:
            if (source / name).is_file():
                (fresh / name).write_bytes((source / name).read_bytes())
    return BaseRef(
        repo=str(directory), revision=MINILM.revision, sha256=sha256_file(directory / WEIGHTS)
    )


def soup_of(out: Path, ingredients: Sequence[str]) -> dict[str, Any]:
    """Average, calibrate on prompts of the panel's validation part; figures on the test part of all feedback."""
    directory = out / "soup"
    make_soup(ingredients, None, directory, "uniform")
    loaded = load(directory)
    encoder = TextEncoder.from_directory(loaded.tokenizer_directory, loaded.manifest.text)

    def read(split: Split, groups: range) -> tuple[list[Any], list[list[Any]]]:
        examples = [
            example
            for rater in ("panel", *RATERS)
            for example in open_corpus(
                "own", out / f"world/feedback/{rater}.jsonl", use=Use.EVALUATION, split=split
            )
        ]
        items = encode_all(examples, encoder, loaded.manifest.heads, split.value)
        values = [
            run(items, loaded.manifest.heads, forward_of(loaded.model, encoder, group), 8192)
            for group in groups
        ]
        return items, values

    items, (values, *members) = read(Split.VALIDATION, range(loaded.manifest.groups))
    heads, temperature = fit_scales(items, values, loaded.manifest.heads)
    test, (test_values,) = read(Split.TEST, range(1))
    measured = measure(test, test_values, heads, temperature)
    figures = as_record(  # of few prompts a part may have no error to find
        {name: f for name, f in measured.items() if math.isfinite(f.value + f.low + f.high)}
    )
    manifest = dataclasses.replace(
        loaded.manifest,
        model_id="almanac",
        heads=heads,
        temperature=temperature,
        calibration_set="Almanac: validation part of the feedback",
        metrics={"split": "test", "figures": figures},
        reward_reference=reward_reference(
            rewards_of(items, values, heads), [rewards_of(items, one, heads) for one in members]
        ),
        lineage={"stage": "soup", "commands": "tureen-train demo loop"},
    )
    write_manifest(directory, manifest)
    return figures
