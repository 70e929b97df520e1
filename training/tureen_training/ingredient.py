"""What a run of `reward` begins with and ends with: items, a model, and the directory of the ingredient."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from tureen.errors import InvalidRequest
from tureen.model.checkpoint import load, save
from tureen.model.heads import RewardHeads
from tureen.model.manifest import Manifest
from tureen.model.reward_model import RewardModel, load_backbone, width_of
from tureen.text.encoding import TextEncoder
from tureen_training.data.items import Item, encode
from tureen_training.data.records import SPLIT_RULE, Example
from tureen_training.data.sets import focused
from tureen_training.objective import taught_by
from tureen_training.runlog import progress

if TYPE_CHECKING:
    from tureen_training.reward import Config


def items_of(
    config: Config, encoder: TextEncoder
) -> tuple[dict[str, list[Item]], list[Item], dict[str, int]]:
    """Training items by source, validation items, and how many the server would refuse; only those that teach a head.

    Raises:
        ValueError: a source has nothing to teach, or no source teaches one of the heads of a new model.
    """
    data = Path(config.data)
    names = [head.name for head in config.heads]

    unscorable: dict[str, int] = {}

    def encoded(examples: Iterator[Example], what: str, words: int) -> list[Item]:
        """What the server would refuse is left out and counted: too long, or a response without a token."""
        items = []
        for example in progress(examples, what):
            if any(taught_by(example, name) for name in names):
                short = focused(example, words) if words else example
                try:
                    items.append(encode(short, encoder, config.heads))
                except InvalidRequest:
                    unscorable[what] = unscorable.get(what, 0) + 1
        return items

    train = {
        source.label: encoded(source.training(data), source.label, config.context_words)
        for source in config.sources
    }
    for label, items in train.items():
        if not items:
            raise ValueError(f"source {label} has nothing to teach to {', '.join(names)}")
    for name in names if not config.start else ():
        if not any(taught_by(i.example, name) for items in train.values() for i in items):
            raise ValueError(f"no source teaches the head {name}; add one that does, or drop it")
    validation = [
        item
        for source in config.sources
        for item in encoded(source.validation(data), f"{source.label}, validation", 0)
    ]
    return train, validation, unscorable


def starting_model(config: Config, base: Path) -> RewardModel:
    """The base with new heads, or the checkpoint of a warm start.

    Raises:
        ValueError: the checkpoint has other heads or another base.
    """
    if not config.start:
        backbone = load_backbone(base)
        width = width_of(backbone, config.text)
        return RewardModel(backbone, RewardHeads.initialise(width, len(config.heads)))
    loaded = load(config.start)
    names = [head.name for head in loaded.manifest.heads]
    if not isinstance(loaded.model, RewardModel) or loaded.model.heads.groups != 1:
        raise ValueError(f"{config.start} is no single checkpoint; start from one of `reward`")
    if names != [head.name for head in config.heads]:
        raise ValueError(f"{config.start} has the heads {', '.join(names)}; give the same ones")
    if loaded.manifest.base != config.base or loaded.manifest.text != config.text:
        raise ValueError(f"{config.start} has another base or reads text otherwise; give its own")
    return loaded.model


def save_ingredient(config: Config, model: RewardModel) -> None:
    """The model directory of the ingredient, in one step.

    Raises:
        OSError: the disk is full; what was there before is untouched, and the run can go on from its state.
    """
    licences = [licence for source in config.sources for licence in source.licences]
    if config.start:
        licences += load(config.start).manifest.data_licences
    manifest = Manifest(
        model_id=config.name,
        base=config.base,
        text=config.text,
        heads=config.heads,
        encoding="delta",
        lineage=lineage_of(config),
        data_licences=tuple(dict.fromkeys(licences)),
    )
    try:
        save(config.out, model, manifest)
    except SafetensorError as error:
        raise OSError(
            f"{config.out} cannot be written: {error}; what was there is whole. "
            "Make room and give the same command again."
        ) from error


def lineage_of(config: Config) -> dict[str, str]:
    """How the ingredient came to be, for its manifest: what members of a soup may differ in."""
    lineage = {
        "stage": "reward",
        "base": config.base.repo,
        "base_sha256": config.base.sha256,
        "start": config.start or "linear probe",
        "data": ", ".join(
            f"{source.share:g} × {source.label}"
            + (f" (train part of {SPLIT_RULE})" if source.part == "train" else "")
            for source in config.sources
        ),
        "emphasis": " ".join(f"{name}:{value:g}" for name, value in config.emphasis.items()),
    }
    numbers = ("epochs", "learning_rate", "trained_layers", "lora_rank", "dropout", "seed")
    return lineage | {name: f"{getattr(config, name):g}" for name in numbers}
