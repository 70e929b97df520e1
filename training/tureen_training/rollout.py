"""What a policy is asked and what it responds: the samples of a step, before anything is known of their rewards."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from transformers import PreTrainedTokenizerFast

from tureen.contracts import Message, Sample
from tureen.text.policy_tokens import Alignment, align
from tureen_training.data.jsonl import Fields, records
from tureen_training.data.own import read_prompt
from tureen_training.policies import Policy, Sampled, Sampling, prompt_ids, sample

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt as the service and as the policy read it; exactly one of `prompt` and `messages`."""

    id: str
    prompt: str | None
    messages: tuple[Message, ...] | None
    context: tuple[str, ...]
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rollout:
    """One response of the policy. alignment: of its tokens to its characters."""

    question: Question
    sampled: Sampled
    alignment: Alignment

    def sample(self, *, dense: bool) -> Sample:
        """What the service is asked; dense asks for a reward of each token."""
        return Sample(
            id=self.question.id,
            prompt=self.question.prompt,
            messages=self.question.messages,
            context=self.question.context,
            responses=(self.sampled.text,),
            offsets=(self.alignment.offsets or None,) if dense else None,
        )


def read_questions(
    paths: Iterable[str], tokenizer: PreTrainedTokenizerFast, most_tokens: int | None
) -> tuple[list[Question], int]:
    """The prompts of JSON Lines files, and how many were longer than `most_tokens` and left out.

    A record is {prompt or messages, id?, context?}; other fields are not read.

    Raises:
        BadData: with file and line. OSError: a file cannot be read.
    """
    return read_each(paths, tokenizer, most_tokens, lambda question, _: question)


def read_each(
    paths: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    most_tokens: int | None,
    made: Callable[[Question, Fields], ItemT],
) -> tuple[list[ItemT], int]:
    """What `made` makes of each prompt and its record; else as `read_questions`."""
    found: list[ItemT] = []
    too_long = 0
    for path in paths:
        for fields in records(Path(path)):
            question = read_question(fields, tokenizer)
            if most_tokens is not None and len(question.token_ids) > most_tokens:
                too_long += 1
            else:
                found.append(made(question, fields))
    return found, too_long


def read_question(fields: Fields, tokenizer: PreTrainedTokenizerFast) -> Question:
    """The prompt of one record; raises BadData."""
    prompt, messages = read_prompt(fields)
    context = fields.texts("context") if "context" in fields.record else ()
    try:
        tokens = tuple(prompt_ids(tokenizer, prompt or messages or (), context))
    except ValueError as error:
        raise fields.bad(str(error)) from None
    name = fields.optional_text("id") or f"{fields.path.stem}-{fields.index}"
    return Question(name, prompt, messages, context, tokens)


def respond(
    policy: Policy, questions: Sequence[Question], sampling: Sampling, *, seed: int, batch: int
) -> list[Rollout]:
    """One response to each question, in their order; the same seed gives the same responses."""
    prompts = [question.token_ids for question in questions]
    responses = sample(policy, prompts, sampling, seed=seed, batch=batch)
    return [
        Rollout(question, sampled, align(sampled.offsets))
        for question, sampled in zip(questions, responses, strict=True)
    ]


def drawn(count: int, first: int, number: int, seed: int) -> list[int]:
    """Places `first` … `first + number − 1` of an endless sequence of shuffled passes over `count` things.

    A function of its arguments alone: where a run stands in its data is how much it has taken.
    """
    return [_shuffled(count, seed, i // count)[i % count] for i in range(first, first + number)]


@lru_cache(maxsize=4)
def _shuffled(count: int, seed: int, number: int) -> list[int]:
    order = list(range(count))
    random.Random(f"{seed}:pass {number}").shuffle(order)
    return order


def parts(items: Sequence[Question], count: int) -> Iterator[Sequence[Question]]:
    """Not more than `count` parts of like size, none of them empty."""
    size = max(1, -(-len(items) // count))
    yield from (items[i : i + size] for i in range(0, len(items), size))
