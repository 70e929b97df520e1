"""Stage `reward`: one ingredient, a reward model with four heads, from human feedback.

Read top to bottom: data, model, frozen lower layers computed once, a linear probe for the heads, then the top
layers and the heads together. All ingredients of a soup start from the same base and the same probed heads
(WARM, arXiv:2401.12187); they differ in `mix`, `emphasis`, `learning_rate` and `seed`.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tureen.contracts import Granularity
from tureen.model.base import MINILM, resolve_base
from tureen.model.checkpoint import load, save
from tureen.model.heads import RewardHeads
from tureen.model.manifest import BaseRef, HeadSpec, Manifest
from tureen.model.reward_model import RewardModel, load_backbone
from tureen.text.encoding import TextEncoder, Window
from tureen.text.template import TextSpec
from tureen_training import losses
from tureen_training.data.items import Item, Values, batches, rows_of, run, tensors
from tureen_training.data.records import TEACHES, Split
from tureen_training.data.sets import (
    encode_all,
    feedback_examples,
    focused,
    training_examples,
)
from tureen_training.evaluation.qa_feedback import measure
from tureen_training.evaluation.scorers import pad_id_of
from tureen_training.runlog import RunLog, progress
from tureen_training.trunk import ActivationCache, freeze_below, layers_of, replaying

Forward = Callable[[list[Window]], Tensor]
"""Windows -> (B, N, H) values."""

PROBE_BATCH = 48
DATA_LICENCES = (
    "QA-Feedback (Wu et al. 2023): Apache-2.0",
    "passages of QA-Feedback, from Wikipedia: CC BY-SA",
)

QA_HEADS = (
    HeadSpec(name="preference", granularity=Granularity.RESPONSE, weight=0.4),
    HeadSpec(name="factuality", granularity=Granularity.SENTENCE, weight=0.25, combine="max"),
    HeadSpec(name="relevance", granularity=Granularity.SUB_SENTENCE, weight=0.15),
    HeadSpec(name="completeness", granularity=Granularity.RESPONSE, weight=0.2),
)
"""Heads of grounded-qa. A sentence is supported if any window of the context supports it: factuality is the
maximum over windows. The card says why the weights are what they are."""

QA_TEXT = TextSpec(
    template="pair",
    max_input_tokens=512,
    max_windows=8,
    response_pooling="mean",
    unit_pooling="mean",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Train one ingredient.

    data: directory of QA-Feedback. out: directory of the ingredient (a model directory of its own).
    start: a checkpoint to begin from, its heads included, instead of the base and a linear probe.
    context_words: of the passages, those that bear most on the responses; figures are always on all of them.
    mix: origin -> how often its examples come by in an epoch; 0.5 takes a random half, another each time.
    emphasis: head -> weight of its loss. error_weight: head -> weight of an error unit against a clean one.
    trained_layers: how many top layers train; the others are frozen and run once.
    learning_rate: of the layers; the heads train at `head_learning_rate`. Both decay linearly to 0.
    prompts_per_step: prompts whose losses make one update. centring: η of `losses.centring`.
    probe_prompts, probe_steps: prompts that the linear probe of the heads sees, and its steps; probe_seed:
        shared by all ingredients of a soup, so their heads start alike.
    max_batch_tokens: of one forward pass, padding included. cache: directory of the frozen activations.
    """

    data: str
    out: str
    name: str
    base: BaseRef = MINILM
    text: TextSpec = QA_TEXT
    heads: tuple[HeadSpec, ...] = QA_HEADS
    start: str = ""
    context_words: int = 80
    mix: dict[str, float] = field(default_factory=lambda: {"feedback": 1.0, "contrast": 0.3})
    emphasis: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys((head.name for head in QA_HEADS), 1.0)
    )
    error_weight: dict[str, float] = field(default_factory=lambda: {"factuality": 2.0})
    trained_layers: int = 2
    epochs: int = 3
    learning_rate: float = 3e-4
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    prompts_per_step: int = 3
    centring: float = 0.01
    probe_prompts: int = 240
    probe_steps: int = 300
    probe_seed: int = 0
    seed: int = 0
    max_batch_tokens: int = 8192
    cache: str = "runs/cache"
    threads: int = 0


def main(config: Config) -> None:
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    rng = random.Random(config.seed)
    log = RunLog(Path(config.out).with_suffix(".metrics.jsonl"))

    # 1. Data: training questions only; the test part is not even tokenised here.
    base = resolve_base(config.base)
    encoder = TextEncoder.from_directory(base, config.text)
    heads = config.heads
    data = Path(config.data)
    train = {
        origin: encode_all(
            (focused(example, config.context_words) for example in training_examples(data, origin)),
            encoder,
            heads,
            origin,
        )
        for origin in config.mix
    }
    validation = encode_all(feedback_examples(data, Split.VALIDATION), encoder, heads, "validation")
    log.write(
        "data",
        train={origin: len(items) for origin, items in train.items()},
        validation=len(validation),
    )

    # 2. Model, and the frozen layers' output for every window of both parts.
    model = starting_model(config, base)
    backbone = model.backbone
    freeze_below(model, config.trained_layers)
    windows = [row.window for part in (*train.values(), validation) for row in rows_of(part)]
    cache = ActivationCache(
        Path(config.cache),
        config.base.sha256,
        windows,
        frozen=len(layers_of(backbone)) - config.trained_layers,
    )
    pad_id = pad_id_of(encoder)
    cache.fill(model, pad_id, config.max_batch_tokens)
    log.write("frozen layers", tokens=cache.tokens)

    with replaying(model, cache) as replay:

        def forward(windows: list[Window]) -> Tensor:
            replay.hidden = cache.hidden(windows)
            return model(**tensors(windows, pad_id))[:, :, 0]  # (B, N, H)

        # 3. The shared linear probe; a warm start has its heads already.
        if not config.start:
            probe(model, train, config, forward)
            log.write("probe", **figures_of(validation, config, forward))

        # 4. Top layers and heads.
        optimiser = torch.optim.AdamW(
            [
                {
                    "params": [p for p in model.backbone.parameters() if p.requires_grad],
                    "lr": config.learning_rate,
                },
                {"params": list(model.heads.parameters()), "lr": config.head_learning_rate},
            ],
            weight_decay=config.weight_decay,
        )
        plan = [schedule(train, config, rng) for _ in range(config.epochs)]
        steps = sum(len(epoch) for epoch in plan)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: linear_decay(step, steps, config.warmup)
        )
        for number, epoch in enumerate(plan, start=1):
            total: dict[str, list[float]] = {}
            for items in progress(epoch, f"epoch {number}"):
                optimiser.zero_grad()
                loss, parts = loss_of(
                    items, run(items, heads, forward, config.max_batch_tokens), config
                )
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
                scheduler.step()
                for name, value in parts.items():
                    total.setdefault(name, []).append(value)
            log.write(
                "epoch",
                number=number,
                loss={name: round(float(np.mean(v)), 4) for name, v in total.items()},
                **figures_of(validation, config, forward),
            )

    # 5. Keep the last weights: the soup, not early stopping, is what averages the noise away.
    manifest = Manifest(
        model_id=config.name,
        base=config.base,
        text=config.text,
        heads=heads,
        encoding="delta",
        lineage=lineage_of(config),
        data_licences=DATA_LICENCES,
    )
    save(config.out, model, manifest)


def starting_model(config: Config, base: Path) -> RewardModel:
    """The base with new heads, or the checkpoint of a warm start."""
    if not config.start:
        backbone = load_backbone(base)
        width = backbone.config.hidden_size
        return RewardModel(backbone, RewardHeads.initialise(width, len(config.heads)))
    model = load(config.start).model
    assert isinstance(model, RewardModel)
    return model


def loss_of(
    items: Sequence[Item], values: Sequence[Sequence[Values]], config: Config
) -> tuple[Tensor, dict[str, float]]:
    """Sum over heads of emphasis · mean over the prompts that say something of the head.

    Returns:
        The loss, and the unweighted mean of each head for the log.
    """
    total = torch.zeros(())
    parts: dict[str, float] = {}
    for head in config.heads:
        terms: list[Tensor] = []
        for item, answers in zip(items, values, strict=True):
            for kind in TEACHES.get(head.name, ()):
                if kind not in item.pairs:
                    continue
                pairs = item.pairs[kind]
                scores = torch.stack([answer.response(head.name) for answer in answers])  # (K,)
                terms.append(
                    losses.ranking(scores, pairs) + config.centring * losses.centring(scores, pairs)
                )
            terms += [
                losses.segment_bce(
                    answer.by_head[head.name],
                    target.labels,
                    target.mask,
                    config.error_weight.get(head.name, 1.0),
                )
                for answer, target in zip(answers, item.targets.get(head.name, ()), strict=False)
                if target is not None and bool(target.mask.any())
            ]
        if terms:
            mean = torch.stack(terms).mean()
            total = total + config.emphasis.get(head.name, 1.0) * mean
            parts[head.name] = float(mean.detach())
    return total, parts


def probe(
    model: RewardModel, train: dict[str, list[Item]], config: Config, forward: Forward
) -> None:
    """Fit the heads alone on the features of the untrained layers, and leave them in `model`.

    The features are what the heads see: with an identity in their place `RewardModel` answers the pooled
    states, (N, D) for each window.
    """
    width = model.backbone.config.hidden_size
    rng = random.Random(config.probe_seed)
    items = [item for part in train.values() for item in part]
    items = rng.sample(items, min(len(items), config.probe_prompts))
    features: dict[int, Tensor] = {}  # id of the window -> (N, D)
    model.heads = RewardHeads(torch.eye(width)[None], torch.zeros(1, width))
    with torch.no_grad():
        for batch in progress(list(batches(rows_of(items), config.max_batch_tokens)), "features"):
            out = forward([row.window for row in batch])  # (B, N, D)
            for b, row in enumerate(batch):
                features[id(row.window)] = out[b, : len(row.window.spans)].clone()

    generator = torch.Generator().manual_seed(config.probe_seed)
    model.heads = RewardHeads.initialise(width, len(config.heads), generator=generator)

    def heads_alone(windows: list[Window]) -> Tensor:
        units = pad_sequence([features[id(window)] for window in windows], batch_first=True)
        return model.heads(units)[:, :, 0]  # (B, N, H)

    even = dataclasses.replace(config, emphasis={})
    optimiser = torch.optim.Adam(model.heads.parameters(), lr=3e-3)
    for _ in progress(range(config.probe_steps), "probe"):
        chosen = rng.sample(items, min(len(items), PROBE_BATCH))
        optimiser.zero_grad()
        loss, _ = loss_of(
            chosen, run(chosen, config.heads, heads_alone, config.max_batch_tokens), even
        )
        loss.backward()
        optimiser.step()


def schedule(train: dict[str, list[Item]], config: Config, rng: random.Random) -> list[list[Item]]:
    """One epoch: the share `mix` of each origin drawn anew, shuffled, `prompts_per_step` at a time."""
    drawn: list[Item] = []
    for origin, share in config.mix.items():
        whole, rest = divmod(share, 1.0)
        drawn += train[origin] * int(whole)
        drawn += rng.sample(train[origin], round(rest * len(train[origin])))
    rng.shuffle(drawn)
    size = config.prompts_per_step
    return [drawn[i : i + size] for i in range(0, len(drawn), size)]


def linear_decay(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate: up over the first share `warmup` of the steps, then down to 0."""
    rising = max(1, round(warmup * steps))
    return (step + 1) / rising if step < rising else (steps - step) / max(1, steps - rising)


def figures_of(validation: list[Item], config: Config, forward: Forward) -> dict[str, float]:
    """Figures on the validation part, for the log."""
    with torch.no_grad():
        values = run(validation, config.heads, forward, config.max_batch_tokens)
    figures = measure(validation, values, config.heads)
    return {name: round(figure.value, 4) for name, figure in figures.items()}


def lineage_of(config: Config) -> dict[str, str]:
    """How the ingredient came to be, for its manifest."""
    return {
        "stage": "reward",
        "data": "qa_feedback, training part of split tureen-split-1",
        "mix": describe(config.mix),
        "emphasis": describe(config.emphasis),
        "epochs": str(config.epochs),
        "learning_rate": f"{config.learning_rate:g}",
        "trained_layers": str(config.trained_layers),
        "seed": str(config.seed),
    }


def describe(shares: dict[str, float]) -> str:
    return " ".join(f"{name}:{value:g}" for name, value in shares.items())
