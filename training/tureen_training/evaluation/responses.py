"""Responses of two sides to the same prompts: recorded in files, or written now by two policies."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tureen.contracts import Message
from tureen_training.data.corpora import open_file
from tureen_training.data.jsonl import SUFFIXES
from tureen_training.data.records import Example
from tureen_training.evaluation import collapse
from tureen_training.evaluation.job import Job
from tureen_training.policies import Sampling
from tureen_training.rollout import read_questions

SIDES = ("before", "after")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One prompt and what both sides said to it, at least one response each."""

    prompt_id: str
    prompt: str | None
    messages: tuple[Message, ...] | None
    context: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]

    def example(self) -> Example:
        """Responses of before, then those of after."""
        return Example(
            prompt_id=self.prompt_id,
            origin="match",
            prompt=self.prompt,
            messages=self.messages,
            context=self.context,
            responses=(*self.before, *self.after),
        )


def matches(job: Job) -> list[Match]:
    """Of `before` and `after`: two files of our own format, or two policies that answer `prompts`.

    Raises:
        ValueError: one is a file and the other a policy, or no prompt has both sides.
        FileNotFoundError: there is nothing to answer.
    """
    sources = (job.config.before, job.config.after)
    recorded = [source.endswith(SUFFIXES) for source in sources]
    if all(recorded):
        found = _recorded(job, [Path(source) for source in sources])
    elif any(recorded):
        raise ValueError(
            f"before is {sources[0]!r} and after {sources[1]!r}; give two files of responses or two policies"
        )
    else:
        found = _written(job)
    kept = job.limited(found, lambda match: match.prompt_id)
    if not kept:
        raise ValueError("no prompt has responses of both sides")
    return kept


def _recorded(job: Job, paths: Sequence[Path]) -> list[Match]:
    before, after = (
        {example.prompt_id: example for example in open_file(path, labelled=False)}
        for path in paths
    )
    job.facts["responses"] = {
        side: {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for side, path in zip(SIDES, paths, strict=True)
    }
    shared = [name for name in before if name in after]
    if lost := len(before) + len(after) - 2 * len(shared):
        job.note(f"{lost} prompts left out: only one side has them")
    for name in shared:
        asked = [(e.prompt, e.messages, e.context) for e in (before[name], after[name])]
        if asked[0] != asked[1]:
            raise ValueError(f"prompt {name!r} is not the same in {paths[0]} and {paths[1]}")
    return [
        Match(
            prompt_id=name,
            prompt=before[name].prompt,
            messages=before[name].messages,
            context=before[name].context,
            before=before[name].responses,
            after=after[name].responses,
        )
        for name in shared
        if job.split is None or before[name].split == job.split
    ]


def _written(job: Job) -> list[Match]:
    """`responses_per_prompt` of each policy to each of the prompts, those left out that are blank."""
    config = job.config
    if not config.prompts:
        raise FileNotFoundError("two policies need prompts to answer; give --prompts FILE")
    sampling = Sampling(max_new_tokens=config.max_new_tokens, temperature=config.temperature)
    job.facts |= {"sampling": asdict(sampling), "responses_per_prompt": config.responses_per_prompt}
    said: list[Mapping[str, tuple[str, ...]]] = []
    questions = []
    for side, model in zip(SIDES, job.two_policies, strict=True):
        room = model.policy.context_tokens
        most = None if room is None else room - sampling.max_new_tokens
        questions, too_long = read_questions(config.prompts, model.policy.tokenizer, most)
        if too_long:
            job.note(f"{too_long} prompts left out: too long for the policy {side}")
        questions = job.limited(questions, lambda question: question.id)
        tokens = {question.id: question.token_ids for question in questions}
        own = collapse.responses(job, model, tokens, side)
        said.append(
            {
                name: tuple(text for text in one.texts if text.strip())
                for name, one in zip(tokens, own, strict=True)
            }
        )
    before, after = said
    return [
        Match(
            prompt_id=question.id,
            prompt=question.prompt,
            messages=question.messages,
            context=question.context,
            before=before[question.id],
            after=after[question.id],
        )
        for question in questions
        if before.get(question.id) and after[question.id]
    ]
