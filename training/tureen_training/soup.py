"""Stage `soup`: choose, check and average the ingredients, calibrate what came out, measure it, write its card.

On the validation part coefficients are chosen (`select`) and the ingredients must prove to be connected
(`connectivity`), before anything is written; figures are those of the test part. The order matters: averaging
changes the scale of every head, so calibration, temperature and the figures are those of the soup as it will be
loaded (fp16 deltas summed in fp32), never of an ingredient.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tureen.errors import nearest
from tureen.model.checkpoint import load
from tureen.model.directory import open_model
from tureen.model.drift import BINS, reward_reference
from tureen.model.manifest import LINEAR, HeadSpec, Method, ReferenceScore, write_manifest
from tureen.model.reward_model import RewardModel
from tureen.model.soup import make_soup, require_compatible
from tureen.text.encoding import TextEncoder
from tureen_training.card import write_card
from tureen_training.connectivity import TOLERANCE, follow, require_connected, write
from tureen_training.connectivity import as_record as as_connectivity_record
from tureen_training.data.items import Item, Values, encode, run
from tureen_training.data.qa_feedback import PREDICTIONS
from tureen_training.data.records import SPLIT_RULE, Example, Split
from tureen_training.data.sets import encode_all, feedback_examples, focused
from tureen_training.evaluate import as_json, as_record
from tureen_training.evaluation.qa_feedback import fit_scales, measure, temperature_of
from tureen_training.evaluation.readings import readings_of
from tureen_training.evaluation.scorers import forward_of, pad_id_of
from tureen_training.reference import REFERENCE_SAMPLES
from tureen_training.refit import features, refit, widen
from tureen_training.soup_search import greedy, search
from tureen_training.soup_trials import trials

CALIBRATION_SET = (
    f"QA-Feedback, validation part of {SPLIT_RULE}: the four sampled answers of each question"
)
SELECTIONS = {"greedy": greedy, "searched": search}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Make a soup.

    ingredients: directories, all from one base; one that is a soup brings its members. coefficients: one each,
        adding up to 1; empty is uniform.
    select: greedy or searched, to choose the coefficients by the accuracy of the heads on the validation part.
    method: how trunks are combined: {name: linear}, {name: task_arithmetic, scale: λ} or
        {name: ties, scale: λ, density: share of the entries that is kept}.
    out: directory of the soup. name: its model id. data: directory of QA-Feedback, to calibrate and measure.
    connectivity: follow the lines between the ingredients and between them and the soup, at eleven positions
        each, and refuse a barrier beyond `tolerance`; written to `runs`, NAME.connectivity.json and .png.
    force: make the soup although there is a barrier or no shared ancestor on record.
    trial_words: of the passages, those that bear most on the responses, while soups are tried: all would take
        several times as long. cache: directory of activations.
    refit_penalty: of the logistic regressions that fit the heads of whole answers and relevance anew on training
        questions (`refit`); none keeps them as they were trained.
    commands: what is named in the card as the way to make it again.
    max_batch_tokens: of one forward pass. threads: of torch, 0 its own choice.
    """

    ingredients: tuple[str, ...]
    out: str
    name: str
    data: str
    coefficients: tuple[float, ...] = ()
    select: str = ""
    method: Method = LINEAR
    connectivity: bool = True
    tolerance: float = TOLERANCE
    force: bool = False
    runs: str = "runs"
    trial_words: int = 80
    cache: str = "runs/cache"
    refit_penalty: float | None = None
    commands: str = ""
    max_batch_tokens: int = 16384
    threads: int = 0


def main(config: Config) -> None:
    if config.threads:
        torch.set_num_threads(config.threads)
    data, out = Path(config.data), Path(config.out)
    recipe, ingredients, coefficients, tried = chosen(config)
    make_soup(ingredients, coefficients, out, recipe, config.force, config.method)
    if config.refit_penalty is not None:
        refit_heads(config, config.refit_penalty)

    # 1. Calibrate on the validation part: on questions it was trained on a head spreads wider than elsewhere.
    loaded = load(out)
    encoder = TextEncoder.from_directory(loaded.tokenizer_directory, loaded.manifest.text)

    def values_of(items: Sequence[Item], group: int = 0) -> list[list[Values]]:
        forward = forward_of(loaded.model, encoder, group)
        return run(items, loaded.manifest.heads, forward, config.max_batch_tokens)

    validation = encode_all(
        feedback_examples(data, Split.VALIDATION), encoder, loaded.manifest.heads, "validation"
    )
    values = values_of(validation)
    heads, temperature = fit_scales(validation, values, loaded.manifest.heads)
    if config.refit_penalty is not None:
        # Fitted heads of whole answers hold too few numbers to know a question by heart, and a temperature
        # needs more comparisons than the validation part has.
        training = encode_all(feedback_examples(data, Split.TRAIN), encoder, heads, "training")
        temperature = temperature_of([*validation, *training], values + values_of(training), heads)
    rewards = rewards_of(validation, values, heads)
    members = [values_of(validation, group) for group in range(1, loaded.manifest.groups)]

    # 2. Figures on test questions.
    test = encode_all(feedback_examples(data, Split.TEST), encoder, heads, "test")
    figures = measure(test, values_of(test), heads, temperature)

    # 3. Reference scores, which the server compares with its own at start-up.
    reference = reference_scores(encoder, heads, values_of)
    manifest = dataclasses.replace(
        loaded.manifest,
        model_id=config.name,
        heads=heads,
        temperature=temperature,
        calibration_set=CALIBRATION_SET,
        metrics={"split": "test", "figures": as_record(figures), **tried},
        reference=reference,
        reward_reference=reward_reference(
            rewards, [rewards_of(validation, of_member, heads) for of_member in members] or None
        )
        if len(rewards) >= BINS
        else None,
        lineage={"stage": "soup", "commands": config.commands},
    )
    write_manifest(out, manifest)
    write_card(out, manifest)
    print(as_json(figures))  # noqa: T201 - the answer of the command


def chosen(config: Config) -> tuple[str, list[str], list[float], dict[str, Any]]:
    """Recipe, the ingredients that take part, their coefficients, and what was found out on the validation part.

    Raises:
        IncompatibleSoup: there is a barrier, and the soup is not forced.
    """
    if config.select not in ("", *SELECTIONS):
        raise ValueError(f"select is {config.select!r}{nearest(config.select, SELECTIONS)}")
    if config.select and config.coefficients:
        raise ValueError("coefficients were given and are to be selected; give one of the two.")
    count = len(config.ingredients)
    coefficients = config.coefficients or tuple([1 / count] * count)
    recipe = config.select or ("weighted" if config.coefficients else "uniform")
    opened = [open_model(path) for path in config.ingredients]
    require_compatible(opened, force=config.force)
    found: dict[str, Any] = {}
    if count == 1:  # a soup alone is made of what was tried when it was made
        kept = opened[0].manifest.metrics
        found = {name: kept[name] for name in ("selection", "connectivity") if name in kept}
    if count > 1 and (config.select or config.connectivity):
        examples = feedback_examples(Path(config.data), Split.VALIDATION)
        with trials(
            config.ingredients,
            [focused(example, config.trial_words) for example in examples],
            method=config.method,
            cache=Path(config.cache),
            max_batch_tokens=config.max_batch_tokens,
        ) as tried:
            if config.select:
                selection = SELECTIONS[config.select](count, tried.accuracy)
                coefficients = selection.coefficients
                found["selection"] = {"split": "validation", **selection.as_record()}
            if config.connectivity:
                soup = tried.soup_of(coefficients)
                lines = follow({**tried.states, "the soup": soup}, tried.outcomes)
                write(lines, Path(config.runs) / f"{config.name}.connectivity", config.tolerance)
                found["connectivity"] = as_connectivity_record(lines, config.tolerance)
                if not config.force:
                    require_connected(lines, config.tolerance)
    taken = [i for i, coefficient in enumerate(coefficients) if coefficient > 0]
    return (
        recipe if config.method == LINEAR else f"{config.method.name}-{recipe}",
        [config.ingredients[i] for i in taken],
        [coefficients[i] for i in taken],
        found,
    )


def refit_heads(config: Config, penalty: float) -> None:
    widen(Path(config.out))
    loaded = load(config.out)
    assert isinstance(loaded.model, RewardModel)
    encoder = TextEncoder.from_directory(loaded.tokenizer_directory, loaded.manifest.text)
    examples = feedback_examples(Path(config.data), Split.TRAIN)
    items = encode_all(examples, encoder, loaded.manifest.heads, "training")
    states = features(loaded.model, items, pad_id_of(encoder), config.max_batch_tokens)
    refit(Path(config.out), states, items, penalty)


def rewards_of(
    items: Sequence[Item], values: Sequence[Sequence[Values]], heads: Sequence[HeadSpec]
) -> list[float]:
    """Of every sampled answer, in their order."""
    return [
        reading.reward
        for answers in readings_of(items, values, heads)
        for reading in answers[:PREDICTIONS]
    ]


def reference_scores(
    encoder: TextEncoder,
    heads: Sequence[HeadSpec],
    values_of: Callable[[Sequence[Item]], list[list[Values]]],
) -> tuple[ReferenceScore, ...]:
    """What the soup says now of samples written for this purpose."""
    items = [
        encode(
            Example(
                prompt_id=f"reference-{i}",
                origin="reference",
                prompt=sample.prompt or "",
                context=sample.context,
                responses=sample.responses,
            ),
            encoder,
            heads,
        )
        for i, sample in enumerate(REFERENCE_SAMPLES)
    ]
    readings = readings_of(items, values_of(items), heads)
    return tuple(
        ReferenceScore(sample=sample, rewards=tuple(reading.reward for reading in answers))
        for sample, answers in zip(REFERENCE_SAMPLES, readings, strict=True)
    )
