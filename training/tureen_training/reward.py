"""Stage `reward`: one ingredient, a reward model with several heads, from human feedback of several kinds.

Read top to bottom: data, model, frozen lower layers computed once, a linear probe for the heads, then the top layers
and the heads together, saved. All ingredients of a soup start from the same base and the same probed heads (WARM,
arXiv:2401.12187); they differ in `sources`, `emphasis`, `learning_rate`, `dropout` and `seed`.

Killed at any moment, the same command goes on from the last state: see `resume`.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from tureen.contracts import Granularity
from tureen.model.base import MINILM, resolve_base
from tureen.model.manifest import BaseRef, HeadSpec
from tureen.model.reward_model import RewardModel
from tureen.text.encoding import TextEncoder, Window
from tureen.text.template import TextSpec
from tureen_training import resume
from tureen_training.data.items import Item, rows_of, run, tensors
from tureen_training.data.schedule import epoch_of
from tureen_training.data.sets import Source
from tureen_training.evaluation.qa_feedback import measure
from tureen_training.evaluation.scorers import pad_id_of
from tureen_training.ingredient import items_of, save_ingredient, starting_model
from tureen_training.objective import Objective, raters_of, weigh
from tureen_training.optim import adamw, linear_decay, totals, update
from tureen_training.probe import probe
from tureen_training.runlog import ReportTo, draw, progress
from tureen_training.trunk import (
    ActivationCache,
    dropping_out,
    freeze_below,
    frozen_digest,
    layers_of,
    low_rank,
    replaying,
)

Forward = Callable[[list[Window]], Tensor]
"""Windows -> (B, N, H) values."""

LOGGED_STEPS = 100  # about so many points has the curve of a loss

QA_HEADS = (
    HeadSpec(name="preference", granularity=Granularity.RESPONSE, weight=0.4),
    HeadSpec(name="factuality", granularity=Granularity.SENTENCE, weight=0.25),
    HeadSpec(name="relevance", granularity=Granularity.SUB_SENTENCE, weight=0.15),
    HeadSpec(name="completeness", granularity=Granularity.RESPONSE, weight=0.2),
)
"""Heads of grounded-qa. The card says why the weights are what they are."""

QA_TEXT = TextSpec(
    template="evidence",
    max_input_tokens=512,
    max_windows=8,
    response_pooling="mean",
    unit_pooling="mean",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Train one ingredient.

    data: directory that the paths of `sources` start from. out: directory of the ingredient (a model directory of
        its own); its log, curves and state lie beside it, in `out`.run.
    sources: what to learn from, each with its share; see `tureen_training.data.sets.Source`.
    start: a checkpoint to begin from, its heads included, instead of the base and a linear probe.
    context_words: of the passages, those that bear most on the responses, 0 is all; figures are always on all.
    train_windows: of a context longer than a window a response trains on all windows, or on one drawn anew in each
        epoch, which is then exactly a window of the server.
    emphasis: head -> weight of its loss; error_weight: head -> weight of an error against what is clean; 1 where
        a head is not named.
    trained_layers: how many top layers train; the others are frozen and run once. Embeddings never train.
    lora_rank: the trained layers move by matrices of this rank alone; 0 lets them move freely.
    dropout: in the trained layers.
    learning_rate: of the layers; the heads train at `head_learning_rate`. Both decay linearly to 0.
    prompts_per_step: prompts whose losses make one update, over all processes.
    centring: η of `losses.centring`. label_smoothing: ε of `losses.bradley_terry`.
    rater_reliability: learn how far each rater is to be believed (Crowd-BT) instead of smoothing labels.
    probe_prompts, probe_steps: prompts that the linear probe of the heads sees, and its steps; probe_seed:
        shared by all ingredients of a soup, so their heads start alike.
    max_batch_tokens: of one forward pass, padding included. cache: directory of the frozen activations.
    state_steps: a state to resume from is kept after so many steps and after each epoch; 0 is the latter alone.
    report_to: none, tensorboard or trackio, beside metrics.jsonl. threads: of torch, 0 its own choice.
    """

    data: str
    out: str
    name: str
    base: BaseRef = MINILM
    text: TextSpec = QA_TEXT
    heads: tuple[HeadSpec, ...] = QA_HEADS
    sources: tuple[Source, ...] = (Source(name="qa_feedback"), Source(name="contrast", share=0.3))
    start: str = ""
    context_words: int = 80
    train_windows: Literal["all", "one"] = "all"
    emphasis: dict[str, float] = field(default_factory=dict)
    error_weight: dict[str, float] = field(default_factory=dict)
    trained_layers: int = 2
    lora_rank: int = 0
    dropout: float = 0.0
    epochs: int = 3
    learning_rate: float = 3e-4
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    prompts_per_step: int = 3
    centring: float = 0.01
    label_smoothing: float = 0.0
    rater_reliability: bool = False
    probe_prompts: int = 240
    probe_steps: int = 300
    probe_seed: int = 0
    seed: int = 0
    max_batch_tokens: int = 8192
    cache: str = "runs/cache"
    state_steps: int = 0
    report_to: ReportTo = "none"
    threads: int = 0

    def __post_init__(self) -> None:
        names = [head.name for head in self.heads]
        for option, given in (
            ("emphasis", self.emphasis),
            ("error_weight", self.error_weight),
            *((f"heads of source {source.label}", source.heads) for source in self.sources),
        ):
            unknown = sorted(set(given) - set(names))
            if unknown:
                raise ValueError(f"{option} names {', '.join(unknown)}; heads: {', '.join(names)}")
        labels = [source.label for source in self.sources]
        if not labels or len(set(labels)) < len(labels):
            raise ValueError(f"sources are {labels}; give at least one, and each once")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be in [0, 1)")
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(f"label_smoothing is {self.label_smoothing}; it must be in [0, 0.5)")
        if self.label_smoothing and self.rater_reliability:
            raise ValueError("label_smoothing and rater_reliability exclude each other; give one")
        if self.lora_rank and not self.trained_layers:
            raise ValueError("lora_rank needs layers to train; trained_layers is 0")
        for option in ("epochs", "lora_rank", "probe_steps", "state_steps", "context_words"):
            if getattr(self, option) < 0:
                raise ValueError(f"{option} is {getattr(self, option)}; it must be 0 or more")
        for option in ("prompts_per_step", "probe_prompts"):
            if getattr(self, option) < 1:
                raise ValueError(f"{option} is {getattr(self, option)}; it must be 1 or more")


def main(config: Config) -> None:
    begun = resume.opened(config)
    folder, place, state, log = begun.folder, begun.place, begun.state, begun.log
    accelerator = begun.accelerator

    # 1. Data: training prompts only; the test part is not even tokenised here.
    base = resolve_base(config.base)
    encoder = TextEncoder.from_directory(base, config.text)
    heads, pad_id, one_window = config.heads, pad_id_of(encoder), config.train_windows == "one"
    train, validation, unscorable = items_of(config, encoder)
    everything = [item for items in train.values() for item in items]
    prompts = {label: len(items) for label, items in train.items()}
    if not state:
        log.write("data", train=prompts, validation=len(validation), unscorable=unscorable)
    elif state["prompts"] != prompts:
        raise ValueError(f"{place} is of other data: {state['prompts']}, now {prompts}; delete it")

    # 2. Model, and the output of its frozen layers for every window.
    torch.manual_seed(config.seed)
    model = starting_model(config, base).to(accelerator.device)
    freeze_below(model, config.trained_layers)
    objective = Objective(
        [head.name for head in heads],
        error_weight=config.error_weight,
        centring=config.centring,
        label_smoothing=config.label_smoothing,
        raters=raters_of(everything) if config.rater_reliability else (),
        rated={head for item in everything for head in item.example.ratings},
    )
    frozen = len(layers_of(model.backbone)) - config.trained_layers
    with contextlib.ExitStack() as stack:
        replay, cache = None, None
        if frozen:
            windows = [row.window for row in rows_of([*everything, *validation])]
            cache = ActivationCache(Path(config.cache), frozen_digest(model), windows, frozen)
            with accelerator.main_process_first():
                cache.fill(model, pad_id, config.max_batch_tokens)
            if not state:
                log.write("frozen layers", tokens=cache.tokens)
            replay = stack.enter_context(replaying(model, cache))

        def forward(windows: list[Window]) -> Tensor:
            if replay is not None and cache is not None:
                replay.hidden = cache.hidden(windows).to(accelerator.device)
            with accelerator.autocast():
                values = model(**tensors(windows, pad_id, accelerator.device))
            return values[:, :, 0].cpu()  # (B, N, H): losses are many and small

        def watch() -> dict[str, float]:
            return figures_of(validation, config, forward) if accelerator.is_main_process else {}

        # 3. The shared linear probe; a warm start has its heads already.
        if not config.start and not state:
            model.heads = probe(
                model,
                everything,
                heads,
                objective,
                forward,
                prompts=config.probe_prompts,
                steps=config.probe_steps,
                seed=config.probe_seed,
                one_window=one_window,
                max_batch_tokens=config.max_batch_tokens,
            ).to(accelerator.device)
            log.write("probe", validation=watch())

        # 4. Top layers and heads.
        if config.lora_rank:
            stack.enter_context(low_rank(model, config.trained_layers, config.lora_rank))
        trained = dict(trained_parameters(model, objective))
        optimiser = adamw(
            [p for p in model.backbone.parameters() if p.requires_grad],
            list(model.heads.parameters()),
            list(objective.parameters()),
            learning_rate=config.learning_rate,
            head_learning_rate=config.head_learning_rate,
            weight_decay=config.weight_decay,
        )
        if state:
            resume.load_state(place, trained, optimiser)

        def keep(step: int, sums: dict[str, list[float]]) -> None:
            if accelerator.is_main_process:
                record = {
                    "step": step,
                    "sums": sums,
                    "log_bytes": log.sync(),
                    "prompts": prompts,
                    "config": resume.identity(config),
                }
                resume.save_state(place, trained, optimiser, record)

        done: int = state["step"] if state else 0
        sums: dict[str, list[float]] = state["sums"] if state else {}  # head -> [loss, terms]
        for epoch in range(config.epochs):
            plan = epoch_of(
                train,
                {source.label: source.share for source in config.sources},
                prompts_per_step=config.prompts_per_step,
                one_window=one_window,
                seed=config.seed,
                epoch=epoch,
            )
            steps = len(plan) * config.epochs
            logged = max(1, steps // LOGGED_STEPS)
            first = epoch * len(plan)
            if done >= first + len(plan):
                continue
            todo = range(max(done, first), first + len(plan))
            with dropping_out(model, config.trained_layers, config.dropout):
                for step in progress(todo, f"epoch {epoch + 1}"):
                    # dropout is a function of the step; each process has its own
                    rng = random.Random(f"{config.seed}:{step}:{accelerator.process_index}")
                    torch.manual_seed(rng.getrandbits(63))
                    items = plan[step - first]
                    own = items[accelerator.process_index :: accelerator.num_processes]
                    values = run(own, heads, forward, config.max_batch_tokens)
                    found = objective(own, values)
                    terms, losses = totals(found, accelerator)
                    factor = linear_decay(step, steps, config.warmup)
                    update(optimiser, weigh(found, terms, config.emphasis), factor, accelerator)
                    for head, count in terms.items():
                        loss, seen = sums.get(head, (0.0, 0))
                        sums[head] = [loss + losses[head], seen + count]
                    done = step + 1
                    if done % logged == 0:
                        log.write("step", step=done, loss=means(sums))
                        sums = {}
                    if config.state_steps and done % config.state_steps == 0 and done < todo.stop:
                        keep(done, sums)
            log.write("epoch", step=done, number=epoch + 1, validation=watch())
            keep(done, sums)
        if objective.reliabilities():
            log.write("raters", step=done, reliability=objective.reliabilities())

    # 5. Keep the last weights: the soup, not early stopping, is what averages the noise away.
    if accelerator.is_main_process:
        save_ingredient(config, model)
        draw(log.records(), folder / "curves.png")
        resume.forget(place)
    accelerator.end_training()


def figures_of(validation: Sequence[Item], config: Config, forward: Forward) -> dict[str, float]:
    """Figures on the validation part, for the log."""
    with torch.no_grad():
        values = run(validation, config.heads, forward, config.max_batch_tokens)
    figures = measure(validation, values, config.heads)
    return {name: round(figure.value, 4) for name, figure in figures.items()}


def trained_parameters(
    model: RewardModel, objective: Objective
) -> Iterator[tuple[str, nn.Parameter]]:
    for prefix, module in (("model", model), ("objective", objective)):
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                yield f"{prefix}.{name}", parameter


def means(sums: dict[str, list[float]]) -> dict[str, float]:
    return {head: round(loss / terms, 4) for head, (loss, terms) in sums.items() if terms}
