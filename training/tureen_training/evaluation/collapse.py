"""Suite `collapse`: how different a policy's responses still are, and what alignment cost it; before and after.

per_input_*       over K responses to one prompt, mean over prompts; across_inputs_*: over one response to each prompt
*_distinct_2      different bigrams / bigrams; *_ead_2: the same, adjusted for the length of text
*_self_bleu       likeness of a response to the others; higher is less diverse
per_input_identical   share of the responses to a prompt that another one equals to the letter
entropy           nats per sampled token, −log p of the samples under the policy that wrote them
tokens            of a response, with its end of text; ended: share that the policy ended itself
perplexity        of held-out text: e to the mean −log p of a token; of a long text each token is predicted within one
                  window of the context

With two policies every name begins with before_ or after_, and change_* is after − before, paired by prompt; of the
perplexity change_perplexity is the ratio after / before. Intervals are over prompts (texts), those across inputs over
the K draws. Compare only at one K, temperature, length and tokeniser; at temperatures other than 1 the entropy is a
cross-entropy. See Kirk et al., arXiv:2310.06452; `diversity` has the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tureen_training import diversity, metrics
from tureen_training.data.records import group_of, split_of
from tureen_training.evaluation import truthfulqa
from tureen_training.evaluation.files import rows
from tureen_training.evaluation.job import Job
from tureen_training.evaluation.language_models import LanguageModel
from tureen_training.evaluation.likelihood import Text, log_probs, sentence
from tureen_training.evaluation.policy_suites import Asked, answered
from tureen_training.evaluation.results import key_of, resumed
from tureen_training.evaluation.subjects import Subject
from tureen_training.journal import Record
from tureen_training.metrics import Figure
from tureen_training.policies import Sampling, as_sampled, prompt_ids, sample
from tureen_training.rollout import read_questions

N = 2
WINDOW_TOKENS = 1024
"""Of held-out text read at once, where the model's own context is not shorter."""


@dataclass(frozen=True, slots=True)
class Said:
    """K responses to one prompt. tokens: with the end of text. nats: −log p of each under the policy itself."""

    tokens: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]
    ended: tuple[bool, ...]
    nats: tuple[float, ...]


Prompts = Mapping[str, tuple[int, ...]]
"""Tokens of each prompt by its name."""


def evaluate(job: Job) -> dict[str, Figure]:
    models: dict[str, LanguageModel] = {}
    if job.has(Subject.TWO_POLICIES):
        models |= dict(zip(("before", "after"), job.two_policies, strict=True))
    if job.has(Subject.POLICY):
        models["policy"] = job.policy
    if len({model.policy.tokenizer.backend_tokenizer.to_str() for model in models.values()}) > 1:
        job.note(
            "the policies have different tokenisers: perplexity, entropy and diversity differ by that alone"
        )
    config = job.config
    sampling = Sampling(max_new_tokens=config.max_new_tokens, temperature=config.temperature)
    job.facts |= {"sampling": asdict(sampling), "responses_per_prompt": config.responses_per_prompt}
    prompts = {role: prompts_of(job, model, sampling) for role, model in models.items()}
    shared = set.intersection(*(set(own) for own in prompts.values()))
    if not shared:
        raise ValueError(
            f"no prompt leaves room for {sampling.max_new_tokens} tokens (max_new_tokens)"
        )
    lost = max(map(len, prompts.values())) - len(shared)
    if lost:
        job.note(f"{lost} prompts left out: too long for one of the policies")
    said = {
        role: responses(job, model, {n: t for n, t in prompts[role].items() if n in shared}, role)
        for role, model in models.items()
    }
    losses = {role: text_losses(job, model, role) for role, model in models.items()}
    figures: dict[str, Figure] = {}
    for role, model in models.items():
        prefix = "" if role == "policy" else f"{role}_"
        figures |= named(prefix, of_policy(said[role], losses[role], len(model.policy.tokenizer)))
    if "after" in models:
        vocabulary = [len(models[role].policy.tokenizer) for role in ("before", "after")]
        figures |= named("change_", changes(said, losses, vocabulary))
    return figures


def named(prefix: str, figures: Mapping[str, Figure]) -> dict[str, Figure]:
    return {f"{prefix}{name}": figure for name, figure in figures.items()}


def prompts_of(job: Job, model: LanguageModel, sampling: Sampling) -> dict[str, tuple[int, ...]]:
    """Those of `prompts`, or the questions of TruthfulQA in `data`; only those that leave room for a response."""
    tokenizer, room = model.policy.tokenizer, model.policy.context_tokens
    if job.config.prompts:
        found, _ = read_questions(job.config.prompts, tokenizer, None)
        asked = [(question.id, question.token_ids) for question in found]
    else:
        asked = [
            (question.name, tuple(prompt_ids(tokenizer, question.text)))
            for question in truthfulqa.questions(job.file(truthfulqa.FOLDER, *truthfulqa.FILES))
            if job.split is None or split_of(group_of(question.text)) == job.split
        ]
    most = math.inf if room is None else room - sampling.max_new_tokens
    kept = job.limited(asked, lambda one: one[0])
    return {name: tokens for name, tokens in kept if len(tokens) <= most}


def responses(job: Job, model: LanguageModel, prompts: Prompts, role: str) -> list[Said]:
    """K responses to each prompt, each prompt's from a seed of its own, so that they are the same whatever is asked
    beside it."""
    config = job.config
    sampling = Sampling(max_new_tokens=config.max_new_tokens, temperature=config.temperature)
    names = list(prompts)
    drawn = [asdict(sampling), config.responses_per_prompt, config.seed]
    keys = [key_of([name, prompts[name], drawn]) for name in names]

    def work(places: list[int]) -> Iterator[tuple[int, Said]]:
        for place in places:
            prompt = prompts[names[place]]
            many = sample(
                model.policy,
                [prompt] * config.responses_per_prompt,
                sampling,
                seed=int(keys[place][:12], 16),
                what="",
            )
            own = tuple(one.token_ids for one in many)
            begun = len(prompt)
            texts = [Text((*prompt, *t), tuple(range(begun, begun + len(t)))) for t in own]
            yield (
                place,
                Said(
                    tokens=own,
                    texts=tuple(one.text for one in many),
                    ended=tuple(one.ended for one in many),
                    nats=tuple(-p for p in log_probs(model, texts, config.max_batch_tokens)),
                ),
            )

    def write(place: int, said: Said) -> Record:
        return {"id": names[place], "tokens": said.tokens, "nats": said.nats, "texts": said.texts}

    def read(record: dict[str, Any]) -> Said:
        own = tuple(tuple(tokens) for tokens in record["tokens"])
        ended = tuple(as_sampled(model.policy.tokenizer, tokens).ended for tokens in own)
        return Said(own, tuple(record["texts"]), ended, tuple(record["nats"]))

    path = job.results(f"responses-{role}")
    return resumed(
        path, model.fingerprint, keys, work, write=write, read=read, what=f"sampling {role}"
    )


def text_losses(job: Job, model: LanguageModel, role: str) -> dict[str, tuple[float, int]]:
    """(Σ −log p, tokens) of each held-out text; nothing where there is none."""
    try:
        path = (
            Path(job.config.text) if job.config.text else job.file("text", "wikitext2_valid_test")
        )
    except FileNotFoundError:
        job.note("no held-out text: give --text FILE for perplexity")
        return {}
    texts = [(f.optional_text("id") or f"text-{f.index}", f.text("text")) for f in rows(path)]
    room = min(model.policy.context_tokens or WINDOW_TOKENS, WINDOW_TOKENS)
    texts = job.limited(texts, lambda one: one[0])
    asked = [Asked(name, windows(sentence(model, text).ids, room)) for name, text in texts]
    found = answered(job, model, asked, lambda one: one, part=f"text-{role}")
    return {
        one.name: (-sum(sums), sum(len(text.counted) for text in one.texts)) for one, sums in found
    }


def windows(ids: tuple[int, ...], room: int) -> tuple[Text, ...]:
    """Stretches of at most `room` tokens, each but the first token of the whole predicted in just one of them."""
    starts = range(0, max(1, len(ids) - 1), room - 1)
    parts = [ids[start : start + room] for start in starts]
    return tuple(Text(part, tuple(range(1, len(part)))) for part in parts)


# --- figures ---


def of_policy(
    said: Sequence[Said], losses: Mapping[str, tuple[float, int]], vocabulary: int
) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for name, lines in per_prompt(said, vocabulary).items():
        known = lines[~np.isnan(lines)]
        if len(known):
            figures[name] = metrics.mean(
                metrics.singly(known), baselines=SAME[name.rsplit("per_input_", 1)[-1]]
            )
    for name, values in across(said, vocabulary).items():
        if values:
            figures[name] = metrics.mean(
                metrics.singly(np.array(values)),
                baselines=SAME[name.rsplit("across_inputs_", 1)[-1]],
            )
    figures["entropy"] = metrics.bootstrap(
        [np.array([[sum(one.nats), sum(map(len, one.tokens))]]) for one in said],
        lambda drawn: float(drawn[:, 0].sum() / drawn[:, 1].sum()),
        baselines={"certain": 0.0, "uniform": math.log(vocabulary)},
    )
    if losses:
        figures["perplexity"] = metrics.bootstrap(
            [np.array([line]) for line in losses.values()],
            perplexity,
            baselines={"uniform": float(vocabulary)},
            lower_is_better=True,
        )
    return figures


SAME: Mapping[str, Mapping[str, float]] = {
    "distinct_2": {"all the same": 0.0},
    "ead_2": {"all the same": 0.0},
    "self_bleu": {"all the same": 1.0},
    "identical": {"all the same": 1.0},
    "tokens": {"none": 0.0},
    "ended": {"never": 0.0},
}
"""What a policy would get that says one thing, or nothing; of counts the limit of many."""


def perplexity(rows: np.ndarray) -> float:
    """e to the mean −log p of a token. rows: (T, 2): Σ −log p and tokens of each text."""
    return math.exp(rows[:, 0].sum() / rows[:, 1].sum())


def per_prompt(said: Sequence[Said], vocabulary: int) -> dict[str, np.ndarray]:
    """(P,) of each measure, NaN where a prompt's responses have none."""

    def line(one: Said) -> dict[str, float | None]:
        return {
            "per_input_distinct_2": diversity.distinct(one.tokens, N),
            "per_input_ead_2": diversity.expectation_adjusted_distinct(one.tokens, N, vocabulary),
            "per_input_self_bleu": diversity.self_bleu(one.tokens),
            "per_input_identical": diversity.identical(one.texts),
            "tokens": float(np.mean([len(tokens) for tokens in one.tokens])),
            "ended": float(np.mean(one.ended)),
        }

    lines = [line(one) for one in said]
    return {name: np.array([own[name] for own in lines], np.float64) for name in lines[0]}


def across(said: Sequence[Said], vocabulary: int) -> dict[str, list[float]]:
    """Of each measure its values over the k-th responses to all prompts, for each k that has one."""
    found: dict[str, list[float]] = {}
    for k in range(len(said[0].tokens)):
        tokens = [one.tokens[k] for one in said]
        values = {
            "across_inputs_distinct_2": diversity.distinct(tokens, N),
            "across_inputs_ead_2": diversity.expectation_adjusted_distinct(tokens, N, vocabulary),
            "across_inputs_self_bleu": diversity.self_bleu(tokens[:SELF_BLEU_RESPONSES]),
        }
        for name, value in values.items():
            own = found.setdefault(name, [])
            if value is not None:
                own.append(value)
    return found


SELF_BLEU_RESPONSES = 200
"""Of so many prompts, the first ones: self-BLEU takes time quadratic in their number."""


def changes(
    said: Mapping[str, Sequence[Said]],
    losses: Mapping[str, Mapping[str, tuple[float, int]]],
    vocabulary: Sequence[int],
) -> dict[str, Figure]:
    """After − before of every figure, of the perplexity after / before."""
    before, after = said["before"], said["after"]
    figures: dict[str, Figure] = {}
    lines = [per_prompt(own, size) for own, size in zip((before, after), vocabulary, strict=True)]
    for name in lines[0]:
        difference = lines[1][name] - lines[0][name]
        known = difference[~np.isnan(difference)]
        if len(known):
            figures[name] = metrics.mean(metrics.singly(known), baselines={"no change": 0.0})
    draws = [across(own, size) for own, size in zip((before, after), vocabulary, strict=True)]
    for name, own in draws[0].items():
        if own and len(own) == len(draws[1][name]):
            figures[name] = metrics.mean(
                metrics.singly(np.subtract(draws[1][name], own)), baselines={"no change": 0.0}
            )
    totals = [
        np.array([[sum(a.nats), sum(map(len, a.tokens)), sum(b.nats), sum(map(len, b.tokens))]])
        for b, a in zip(before, after, strict=True)
    ]
    figures["entropy"] = metrics.bootstrap(
        totals,
        lambda t: float(t[:, 0].sum() / t[:, 1].sum() - t[:, 2].sum() / t[:, 3].sum()),
        baselines={"no change": 0.0},
    )
    shared = [name for name in losses["before"] if name in losses["after"]]
    if shared:
        figures["perplexity"] = metrics.bootstrap(
            [np.array([[*losses["after"][name], *losses["before"][name]]]) for name in shared],
            lambda t: perplexity(t[:, :2]) / perplexity(t[:, 2:]),
            baselines={"no change": 1.0},
        )
    return figures
