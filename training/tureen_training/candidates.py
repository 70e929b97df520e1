"""Candidates: several responses to one prompt, from people and from policies, with the rewards of the service.

RRHF and best-of-n both begin here. A candidate is text: it is read by the tokenizer of the policy that learns from
it, whoever wrote it, and ends in an end of text unless a policy ran into the limit of tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerFast

from tureen.contracts import Sample, Score
from tureen.text.policy_tokens import Alignment
from tureen_training.data.jsonl import Fields
from tureen_training.oracle import Reward, Unscorable
from tureen_training.policies import Policy, Sampled, Sampling, end_id, response_ids
from tureen_training.rollout import Question, Rollout, read_each, respond

REFERENCE = "reference"
"""Source of a response that a file gives and does not name."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One response. sources: who wrote it, several where they wrote the same. ended: it ends in an end of text."""

    text: str
    ended: bool
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt and the responses to it, no two of them the same."""

    question: Question
    candidates: tuple[Candidate, ...] = ()

    def and_more(self, candidates: Iterable[Candidate]) -> Asked:
        """With further ones; of the same text the sources are joined."""
        known = {(one.text, one.ended): one for one in self.candidates}
        for one in candidates:
            before = known.get((one.text, one.ended))
            sources = tuple(dict.fromkeys((*(before.sources if before else ()), *one.sources)))
            known[one.text, one.ended] = replace(one, sources=sources)
        return replace(self, candidates=tuple(known.values()))

    def samples(self) -> list[Sample]:
        """What the service is asked: one sample a candidate."""
        question = self.question
        return [
            Sample(
                id=question.id,
                prompt=question.prompt,
                messages=question.messages,
                context=question.context,
                responses=(one.text,),
            )
            for one in self.candidates
        ]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A prompt, its candidates and what the service said of each."""

    asked: Asked
    rewards: tuple[Reward, ...]

    def record(self) -> dict[str, Any]:
        """As JSON; `read_asked` reads its prompt and responses back."""
        question, scored = self.asked.question, self.rewards
        prompt: dict[str, Any] = {"prompt": question.prompt}
        if question.messages is not None:
            messages = [{"role": m.role, "content": m.content} for m in question.messages]
            prompt = {"messages": messages}
        return {
            "id": question.id,
            **prompt,
            "context": list(question.context),
            "responses": [one.text for one in self.asked.candidates],
            "ended": [one.ended for one in self.asked.candidates],
            "sources": [list(one.sources) for one in self.asked.candidates],
            "rewards": [one.reward if isinstance(one, Score) else None for one in scored],
            "codes": [one.code if isinstance(one, Unscorable) else None for one in scored],
        }


def read_asked(
    paths: Iterable[str], tokenizer: PreTrainedTokenizerFast, most_tokens: int | None
) -> tuple[list[Asked], int]:
    """The prompts of JSON Lines files with the responses they bring, and how many prompts were too long.

    A record is {prompt or messages, id?, context?} with, where it has responses, `response` or
    `responses` and of these optionally `sources`, one name or list of names each, and `ended`.

    Raises:
        BadData: with file and line. OSError: a file cannot be read.
    """
    return read_each(
        paths,
        tokenizer,
        most_tokens,
        lambda question, fields: Asked(question).and_more(_given(fields)),
    )


def _given(fields: Fields) -> Iterator[Candidate]:
    if "response" in fields.record:
        yield Candidate(fields.text("response"), True, (REFERENCE,))
    if "responses" not in fields.record:
        return
    texts = fields.items("responses", str)
    sources = (
        fields.get("sources", list) if "sources" in fields.record else [REFERENCE] * len(texts)
    )
    ended = fields.items("ended", bool) if "ended" in fields.record else [True] * len(texts)
    for name, values in (("sources", sources), ("ended", ended)):
        if len(values) != len(texts):
            raise fields.bad(f"{name!r} must be one a response, {len(texts)}, got {len(values)}")
    for text, own, whole in zip(texts, sources, ended, strict=True):
        names = [own] if isinstance(own, str) else own
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise fields.bad(f"'sources' holds {own!r}; give a name or a list of names")
        yield Candidate(text, whole, tuple(names))


def responses_of(
    policy: Policy,
    source: str,
    questions: Sequence[Question],
    sampling: Sampling,
    *,
    each: int,
    seed: int,
    batch: int,
) -> list[list[Candidate]]:
    """`each` responses of one policy to every question."""
    repeated = [question for question in questions for _ in range(each)]
    texts = respond(policy, repeated, sampling, seed=seed, batch=batch)
    found = [Candidate(one.sampled.text, one.sampled.ended, (source,)) for one in texts]
    return [found[i * each : (i + 1) * each] for i in range(len(questions))]


def ranked(asked: Sequence[Asked], future: Future[list[Reward]]) -> list[Ranked]:
    """The prompts of one request with their rewards, once they are there.

    Raises:
        OracleUnavailable, SoupSwapped, TureenError: as `RewardOracle.submit`.
    """
    rewards = iter(future.result())
    return [Ranked(one, tuple(next(rewards) for _ in one.candidates)) for one in asked]


def rollout_of(
    question: Question, candidate: Candidate, tokenizer: PreTrainedTokenizerFast
) -> Rollout:
    """The candidate as the policy with this tokenizer would have written it."""
    tokens = response_ids(tokenizer, candidate.text)
    if not candidate.ended and tokens[-1] == end_id(tokenizer):
        tokens = tokens[:-1]
    sampled = Sampled(tuple(tokens), candidate.text, (), candidate.ended)
    return Rollout(question, sampled, Alignment((), ()))
