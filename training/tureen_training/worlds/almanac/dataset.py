"""The world on disk: what each stage of training reads, and, apart from it, what evaluation alone reads.

    tokenizer/                 one token for each word of the world, bytes for everything else
    replay.jsonl               pretraining text {id, text}; replay_validation.jsonl
    rehearsal.jsonl            more of it, for fine-tuning to be mixed with
    cloze.jsonl                {id, prompt, answer, choices}
    sft.jsonl                  imperfect demonstrations {id, prompt, context, response}
    feedback/<annotator>.jsonl rankings, pairs and spans of one annotator, in our own format
    feedback/panel.jsonl       the same responses to some prompts, ranked by all annotators
    prompts_{train,validation,test}.jsonl   {id, prompt, context}
    gold/{train,validation,test}.jsonl      the same prompts with their facts: for evaluation only

Facts are drawn anew for every page, so nothing that validation and test state is in any training data.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tureen_training.policies import PASSAGES, PLAIN
from tureen_training.worlds.almanac.annotators import PANEL, annotate
from tureen_training.worlds.almanac.errors import Errors, Habits, demonstrate, respond
from tureen_training.worlds.almanac.lore import cloze, make_lore, text
from tureen_training.worlds.almanac.render import make_item
from tureen_training.worlds.almanac.world import Fact, Item, World, make_world

END, PAD = "<|end|>", "<|pad|>"
PARTS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How many of each.

    names: of entities of each kind. panel: prompts that every annotator ranks; feedback: prompts of each annotator
    beside them; candidates: responses to each.
    """

    names: int = 60
    replay: int = 6000
    rehearsal: int = 1500
    sft: int = 6000
    feedback: int = 800
    panel: int = 200
    candidates: int = 4
    train: int = 2000
    validation: int = 300
    test: int = 600


def items(world: World, name: str, count: int) -> Iterator[Item]:
    """Questions, the same for the same name; those of another name share the names of entities, but no page."""
    rng = random.Random(f"items:{world.seed}:{name}")
    for number in range(count):
        yield make_item(world, f"{name}-{number}", rng)


def write(out: Path, sizes: Sizes, habits: Habits, seed: int = 0) -> dict[str, int]:
    """Everything above under `out`; how many records each file has."""
    world = make_world(names=sizes.names, seed=seed)
    lore = make_lore(world)
    rng = random.Random(f"dataset:{seed}")
    files: dict[str, list[dict[str, Any]]] = {}

    for name in ("replay", "rehearsal", "replay_validation"):
        count = sizes.validation if name == "replay_validation" else getattr(sizes, name)
        files[name] = [
            {"id": f"{name}-{number}", "text": text(world, lore, rng)} for number in range(count)
        ]
    files["cloze"] = [dataclasses.asdict(question) for question in cloze(lore)]
    files["sft"] = [
        {**_question(item), "response": demonstrate(world, item, habits, rng)}
        for item in items(world, "sft", sizes.sft)
    ]
    files |= feedback(world, sizes, seed)
    for part in PARTS:
        found = list(items(world, part, getattr(sizes, part)))
        files[f"prompts_{part}"] = [_question(item) for item in found]
        files[f"gold/{part}"] = [dataclasses.asdict(item) for item in found]
    for name, records in files.items():
        write_jsonl(out / f"{name}.jsonl", records)
    tokenizer_of(_read_by_policies(files)).save_pretrained(out / "tokenizer")
    return {name: len(records) for name, records in files.items()}


def feedback(
    world: World,
    sizes: Sizes,
    seed: int,
    sampled: Callable[[Sequence[Item]], Sequence[Sequence[str]]] | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """What the annotators say of candidates, by the name of its file.

    Args:
        sampled: some responses of a policy to each item, which are candidates before any that are made up.
    """
    files: dict[str, list[dict[str, Any]]] = {}
    for name, raters, count in (
        *((annotator.name, [annotator], sizes.feedback) for annotator in PANEL),
        ("panel", PANEL, sizes.panel),
    ):
        rng = random.Random(f"feedback:{seed}:{name}")
        asked = list(items(world, name, count))
        said = sampled(asked) if sampled else [()] * count
        files[f"feedback/{name}"] = [
            annotate(item, candidates(world, item, sizes.candidates, rng, own), raters, rng)
            for item, own in zip(asked, said, strict=True)
        ]
    return files


def _read_by_policies(files: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """Every word of the world as a policy meets it, so that none is left to bytes."""
    yield PASSAGES
    yield PLAIN
    for name, records in files.items():
        for record in records:
            if name == "cloze":
                yield from (f"{record['prompt']} {choice}." for choice in record["choices"])
            elif "text" in record:
                yield record["text"]
            else:
                responses = record.get(
                    "responses", [record["response"]] if "response" in record else []
                )
                yield from (
                    f" {text}" for text in (record["prompt"], *record["context"], *responses)
                )


def _question(item: Item) -> dict[str, Any]:
    return {"id": item.id, "prompt": item.prompt, "context": list(item.context)}


def candidates(
    world: World, item: Item, count: int, rng: random.Random, sampled: Sequence[str] = ()
) -> list[str]:
    """Different responses: those sampled, then made ones with errors of every kind and number.

    Of those made one is perfect half of the time.
    """
    found = list(dict.fromkeys(sampled))[:count]
    made = respond(world, item, Errors(), rng)
    if len(found) < count and made not in found and rng.random() < 0.5:
        found.append(made)
    while len(found) < count:
        errors = Errors(
            wrong=rng.choice((0, 0, 1, 1, 2)),
            unasked=rng.choice((0, 0, 1, 1, 2)),
            repeated=rng.choice((0, 0, 0, 1, 2)),
            missing=rng.choice((0, 0, 1, 2)),
            rubbish=rng.random() < 0.1,
        )
        response = respond(world, item, errors, rng)
        if response not in found:
            found.append(response)
    rng.shuffle(found)
    return found


def tokenizer_of(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """One token for each word of the texts, with the space before it, and one for each byte: nothing is unknown."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(split.alphabet())
    words = {word for text in texts for word, _ in split.pre_tokenize_str(text)}
    vocabulary = [(symbol, -10.0) for symbol in alphabet]  # ten words cost as much as one byte
    vocabulary += [(word, -1.0) for word in sorted(words - set(alphabet))]
    backend = Tokenizer(models.Unigram(vocabulary))
    backend.pre_tokenizer = split
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
    )


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def read_items(path: Path) -> list[Item]:
    """The items of a file of gold/."""
    with path.open(encoding="utf-8") as file:
        return [item_of(json.loads(line)) for line in file]


def item_of(record: Mapping[str, Any]) -> Item:
    """The inverse of `dataclasses.asdict`."""
    return Item(
        id=record["id"],
        prompt=record["prompt"],
        context=tuple(record["context"]),
        facts=tuple(Fact(*fact) for fact in record["facts"]),
        asked=tuple(Fact(*fact) for fact in record["asked"]),
    )
