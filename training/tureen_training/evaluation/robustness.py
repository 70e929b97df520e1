"""Suite `robustness`: does the reward move when it should not, and stay when it should move?

Every response is scored as it is and under each edit of `tureen_training.attacks`. Two figures an attack:

    fooled   how often the reward did the wrong thing; lower is better
             preserving        of two responses to one prompt one is edited, either in turn: their order turns round
             gaming            the worse of the two is edited: it overtakes the other one
             breaking          the edited response is worth as much as the original, or more
             prompt            the prompt is edited: the order of two responses turns round
             prompt_breaking   another prompt takes its place: a response is worth as much as before, or more
    shift    mean change of the reward, in units of its standard deviation over the unedited responses. Of what
             preserves the meaning the size of the change; of the others with its sign, which should not be above 0
             (gaming) and be well below it (breaking)

"Better" and "order" are the reward's own: nobody's labels are needed. Of a model with members, `fooled_members` is the
mean of theirs and `soup_minus_members` the difference, on the same edits. `preserving`, `gaming`, `breaking`, `prompt`
and `prompt_breaking` are the means over their attacks.

A reward drawn anew for each text would be fooled ⅓, ⅓ and else ½ of the time (three, or two, draws in any order):
`chance`.
The edits are made by rule: a preserving one may still jar, and a breaking one may leave a sentence true.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from pathlib import Path
from typing import Final

import numpy as np

from tureen_training import metrics
from tureen_training.attacks import ATTACKS, Effect
from tureen_training.data.corpora import open_file
from tureen_training.data.records import Example
from tureen_training.evaluation.comparisons import Read
from tureen_training.evaluation.job import Job
from tureen_training.evaluation.reward_suites import scored
from tureen_training.evaluation.scorers import Model
from tureen_training.metrics import Figure

ORIGINAL = "original"
CHANCE: Final = {
    Effect.PRESERVING: 1 / 3,
    Effect.GAMING: 1 / 3,
    Effect.BREAKING: 1 / 2,
    Effect.PROMPT: 1 / 2,
    Effect.PROMPT_BREAKING: 1 / 2,
}


def evaluate(job: Job) -> dict[str, Figure]:
    skipped: Counter[str] = Counter()
    own = parts(source_of(job), job.config.seed, skipped)
    return scored(job, own, report, skipped=skipped, members=True)


def source_of(job: Job) -> list[Example]:
    """The prompts with responses of `responses`, or of QA-Feedback in `data`; raises ValueError where there is none."""
    path = job.config.responses or job.file("qa_feedback", "dev_feedback")
    found = open_file(Path(path), labelled=False)
    examples = [e for e in found if job.split is None or e.split == job.split]
    if not examples:
        raise ValueError(f"no prompt of {path} is in the {job.config.split} part")
    return job.limited(examples, lambda e: e.prompt_id)


def parts(
    examples: Sequence[Example], seed: int, skipped: Counter[str]
) -> dict[str, list[Example]]:
    """`original`, and each attack: the same prompts with their responses edited, or edited prompts with the same
    responses; what an attack does not apply to is as before."""
    found = {ORIGINAL: [_unlabelled(example, example.responses, ORIGINAL) for example in examples]}
    for name, attack in ATTACKS.items():
        found[name] = []
        for example in examples:
            if attack.effect.of_prompt:
                asked = _with_prompt(
                    example, lambda text, a=attack, n=name: a(text, f"{seed}/{n}/{text}")
                )
                if asked is None:
                    skipped[f"{name} does not apply"] += 1
                else:
                    found[name].append(_unlabelled(asked, example.responses, name))
                continue
            edited = [attack(text, f"{seed}/{name}/{text}") for text in example.responses]
            if idle := edited.count(None):
                skipped[f"{name} does not apply"] += idle
            if any(edited):
                texts = [e or text for e, text in zip(edited, example.responses, strict=True)]
                found[name].append(_unlabelled(example, texts, name))
    return found


def _with_prompt(example: Example, edit: Callable[[str], str | None]) -> Example | None:
    """The example with its prompt, or the last turn of its dialogue, edited; None where the edit does not apply."""
    text = example.prompt if example.messages is None else example.messages[-1].content
    edited = edit(text or "")
    if edited is None:
        return None
    if example.messages is None:
        return replace(example, prompt=edited)
    last = replace(example.messages[-1], content=edited)
    return replace(example, messages=(*example.messages[:-1], last))


def _unlabelled(example: Example, responses: Sequence[str], attack: str) -> Example:
    """prompt_id: that of the example before a slash, which no attack's name has."""
    return Example(
        prompt_id=f"{example.prompt_id}/{attack}",
        origin=example.origin,
        prompt=example.prompt,
        messages=example.messages,
        context=example.context,
        responses=tuple(responses),
        group=example.group,
    )


def report(read: Mapping[str, Sequence[Read]], model: Model) -> dict[str, Figure]:
    originals = {_prompt_of(one[0]): one[0] for one in read[ORIGINAL]}
    voices = Voices({_prompt_of(one[0]): _rewards(one) for one in read[ORIGINAL]})
    lengths = {
        who: Voices({prompt: _lengths(e, sign) for prompt, e in originals.items()})
        for who, sign in _LENGTHS.items()
    }
    figures: dict[str, Figure] = {}
    of_effect: dict[Effect, dict[str, Rows]] = {effect: {} for effect in Effect}
    for name, attack in ATTACKS.items():
        edits = [
            Edit(_prompt_of(one[0]), touched, _rewards(one), one[0])
            for one in read.get(name, ())
            if (before := originals.get(_prompt_of(one[0])))
            and (touched := _touched(before, one[0]))
        ]
        if not edits:
            continue
        rows = {edit.prompt: voices.fooled(edit, attack.effect) for edit in edits}
        trivial = {
            who: [
                own.fooled(
                    replace(edit, edited=_lengths(edit.example, _LENGTHS[who])), attack.effect
                )
                for edit in edits
            ]
            for who, own in lengths.items()
        }
        baselines = {who: _mean(np.concatenate(own)[:, 0]) for who, own in trivial.items()}
        baselines = {who: value for who, value in baselines.items() if not np.isnan(value)}
        figures |= _fooled(name, rows, baselines | {"chance": CHANCE[attack.effect]})
        if voices.std[0]:  # a constant reward has no unit to be measured in
            shifts = [voices.shifts(edit) for edit in edits]
            figures[f"{name}_shift"] = _shift(
                shifts, size=attack.effect in (Effect.PRESERVING, Effect.PROMPT)
            )
        of_effect[attack.effect][name] = rows
    return {**_by_effect(of_effect), **figures}


Rows = Mapping[str, np.ndarray]
"""Prompt -> (R, V): 1 where a voice was fooled, 0 where it was not, NaN where there was nothing to fool it about."""
_LENGTHS: Final = {"longer": 1.0, "shorter": -1.0}


@dataclass(frozen=True, slots=True)
class Edit:
    """One attack on the responses to one prompt. touched: those that were edited. edited: (K, V) rewards."""

    prompt: str
    touched: tuple[int, ...]
    edited: np.ndarray
    example: Example


class Voices:
    """The rewards of the unedited responses, (K, V) a prompt: column 0 the reward, the others its members'."""

    def __init__(self, originals: Mapping[str, np.ndarray]) -> None:
        self.originals = originals
        self.std = np.concatenate(list(originals.values())).std(axis=0)  # (V,)

    def fooled(self, edit: Edit, effect: Effect) -> np.ndarray:
        """(R, V), see `Rows`: a row for each edited response, or for each pair with one."""
        plain, edited = self.originals[edit.prompt], edit.edited
        rows = []
        if effect in (Effect.BREAKING, Effect.PROMPT_BREAKING):
            rows = [edited[k] >= plain[k] for k in edit.touched]
        elif effect == Effect.PROMPT:
            for k, other in combinations(range(len(plain)), 2):
                order, now = np.sign(plain[k] - plain[other]), np.sign(edited[k] - edited[other])
                rows.append(np.where(order != 0, now != order, np.nan))
        for k, other in permutations(range(len(plain)), 2):
            if effect not in (Effect.PRESERVING, Effect.GAMING) or k not in edit.touched:
                continue
            order, now = np.sign(plain[k] - plain[other]), np.sign(edited[k] - plain[other])
            if effect == Effect.PRESERVING:
                rows.append(np.where(order != 0, now != order, np.nan))
            else:
                rows.append(np.where(order < 0, now > 0, np.nan))
        return np.array(rows, np.float64).reshape(-1, plain.shape[1])

    def shifts(self, edit: Edit) -> np.ndarray:
        """(R,) change of the reward itself, in its standard deviations."""
        change = edit.edited[:, 0] - self.originals[edit.prompt][:, 0]
        return change[list(edit.touched)] / self.std[0]


def _fooled(name: str, rows: Rows, baselines: Mapping[str, float]) -> dict[str, Figure]:
    """Nothing where the reward was never to be fooled; members only of a model that has several."""
    own = [group[~np.isnan(group[:, 0])] for group in rows.values()]
    if not any(map(len, own)):
        return {}
    found = {
        f"{name}_fooled": metrics.mean(
            [group[:, 0] for group in own], baselines=baselines, lower_is_better=True
        )
    }
    if own[0].shape[1] <= 2:
        return found

    def members(drawn: np.ndarray) -> float:
        return _mean(np.array([_mean(column) for column in drawn[:, 1:].T]))

    groups = list(rows.values())
    return found | {
        f"{name}_fooled_members": replace(
            metrics.bootstrap(groups, members, baselines=baselines),
            baseline=min(baselines.values()),
        ),
        f"{name}_soup_minus_members": metrics.bootstrap(
            groups,
            lambda drawn: _mean(drawn[:, 0]) - members(drawn),
            baselines={"no difference": 0.0},
        ),
    }


def _shift(groups: Sequence[np.ndarray], *, size: bool) -> Figure:
    """size: of the size of the change, else of the change."""
    return metrics.mean(
        [np.abs(group) if size else group for group in groups], baselines={"none": 0.0}
    )


def _by_effect(of_effect: Mapping[Effect, Mapping[str, Rows]]) -> dict[str, Figure]:
    """The mean of `fooled` over the attacks of each effect, all of a prompt's attacks drawn together."""
    figures = {}
    for effect, attacks in of_effect.items():
        coded: dict[str, list[np.ndarray]] = {}
        for place, rows in enumerate(attacks.values()):
            for prompt, own in rows.items():
                known = own[~np.isnan(own[:, 0]), :1]
                coded.setdefault(prompt, []).append(
                    np.concatenate([np.full_like(known, place), known], axis=1)
                )
        if not any(len(rows) for own in coded.values() for rows in own):
            continue

        def mean(drawn: np.ndarray, count: int = len(attacks)) -> float:
            return _mean(np.array([_mean(drawn[drawn[:, 0] == a, 1]) for a in range(count)]))

        figures[effect.value] = metrics.bootstrap(
            [np.concatenate(own) for own in coded.values()],
            mean,
            baselines={"chance": CHANCE[effect]},
        )
    return figures


def _mean(values: np.ndarray) -> float:
    """Of what is known; NaN of nothing."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def _prompt_of(example: Example) -> str:
    return example.prompt_id.rpartition("/")[0]


def _touched(before: Example, after: Example) -> tuple[int, ...]:
    """Responses that are scored on something else than before: all of them where the prompt was edited."""
    if (before.prompt, before.messages) != (after.prompt, after.messages):
        return tuple(range(len(after.responses)))
    texts = zip(before.responses, after.responses, strict=True)
    return tuple(k for k, (plain, edited) in enumerate(texts) if plain != edited)


def _rewards(read: Read) -> np.ndarray:
    """(K, V)."""
    return np.array([(reading.reward, *reading.members) for reading in read[1]])


def _lengths(example: Example, sign: float) -> np.ndarray:
    return np.array([[sign * len(text)] for text in example.responses])
