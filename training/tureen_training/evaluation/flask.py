"""Suite `flask`: twelve skills in four abilities, as a judge rates them by its rubrics, or as heads stand in for it.

With a judge (`--judge-url`, `--rubrics`) each response is rated 1 to 5 by every skill that its instruction names:

    S/skill/NAME        mean over the instructions that name the skill. N/A is left out: it never counts as a number
    S/ability/NAME      mean of the ability's skills
    S/difficulty/NAME   mean over all scores of that level; S/domain/NAME the same (an instruction may have several)
    S/hard/NAME         a skill on the 89 instructions of FLASK-Hard, where that file is there
    S/na_rate           share of the scores that are N/A; S/no_verdict: responses without a verdict

for each system S. There is no overall score, as published. report.json has skill × difficulty with the cumulative mean
up to each level, and radar.png the skills. Baseline: 3, the middle of the scale.

With a reward model (`--model`) heads stand in: Factuality for the head of that name, Completeness too, relevance for
Comprehension, Conciseness and Readability; other skills have no head and no figure. The numbers are calibrated head
values, in standard deviations, 0 the mean of the calibration: **not comparable** with scores from 1 to 5.

The responses are those of `--policy`, or those that come with the data, or `--flask-responses` in the same layout (idx,
responses: system -> text).
Scores of different judges, rubrics or wordings are not comparable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from tureen_training import metrics
from tureen_training.data.flask import Instance, read_instances, read_systems
from tureen_training.data.records import Example
from tureen_training.evaluation import collapse
from tureen_training.evaluation.comparisons import Read
from tureen_training.evaluation.flask_rubrics import (
    ABILITIES,
    LEVELS,
    SKILLS,
    load_rubrics,
    read_scores,
    skill_of,
)
from tureen_training.evaluation.job import Job
from tureen_training.evaluation.radar import draw_radar
from tureen_training.evaluation.reward_suites import scored
from tureen_training.evaluation.scorers import Model
from tureen_training.evaluation.subjects import Subject
from tureen_training.evaluation.verdicts import Question, verdicts
from tureen_training.judge.errors import Failure
from tureen_training.metrics import Figure
from tureen_training.policies import prompt_ids

FOLDER = "flask"
EVALUATION = ("evaluation", "evaluation_set/flask_evaluation")
HARD = ("hard", "evaluation_set/flask_hard_evaluation")
"""In our copies, and in the release."""
MIDDLE = 3.0
HEADS: Final[Mapping[str, str]] = {
    "Factuality": "factuality",
    "Completeness": "completeness",
    "Comprehension": "relevance",
    "Conciseness": "relevance",
    "Readability": "relevance",
}
"""Skill -> the head that stands in for it."""


@dataclass(frozen=True, slots=True)
class Rated:
    """One response. scores: skill -> number, None where it does not apply; None altogether without a verdict."""

    instance: Instance
    scores: Mapping[str, float | None] | None


Responses = Sequence[tuple[Instance, Mapping[str, str]]]
"""Each instruction with system -> response."""


def evaluate(job: Job) -> dict[str, Figure]:
    responses, hard = _read(job)
    figures: dict[str, Figure] = {}
    if job.has(Subject.JUDGE):
        figures |= _judged(job, responses, hard)
    if job.has(Subject.REWARD) and _heads_there(job):
        job.note(
            "heads stand in as judge: calibrated values, not comparable with scores of a judge nor with FLASK's"
        )
        systems = {str(instance.idx): (instance, tuple(own)) for instance, own in responses}
        figures |= scored(
            job,
            {
                "instructions": [
                    Example(
                        prompt_id=str(instance.idx),
                        origin="flask",
                        prompt=instance.instruction,
                        responses=tuple(own.values()),
                    )
                    for instance, own in responses
                ]
            },
            partial(_by_heads, job=job, systems=systems, hard=hard),
        )
    return figures


def _heads_there(job: Job) -> bool:
    """Whether a head can stand in; where that is all that was asked for, a ValueError says that none can."""
    model = job.scorer.model
    if any(head.name in HEADS.values() for head in model.heads):
        return True
    problem = (
        f"{model.model_id} has none of the heads {', '.join(sorted(set(HEADS.values())))}, which stand in for "
        "the judge of FLASK; give --judge-url, or another model"
    )
    if job.config.suite != "all" and not job.has(Subject.JUDGE):
        raise ValueError(problem)
    job.note(problem)
    return False


def _read(job: Job) -> tuple[Responses, frozenset[int]]:
    """Instructions with responses, and which of them are hard."""
    instances = {one.idx: one for one in read_instances(job.file(FOLDER, *EVALUATION))}
    try:
        texts = {one.instruction for one in read_instances(job.file(FOLDER, *HARD))}
    except FileNotFoundError:
        texts = set()
    hard = frozenset(i.idx for i in instances.values() if i.instruction in texts)
    if job.has(Subject.POLICY):
        return _written(job, list(instances.values())), hard
    return _recorded(job, instances), hard


def _recorded(job: Job, instances: Mapping[int, Instance]) -> Responses:
    config = job.config
    path = Path(config.flask_responses or job.file(FOLDER, "responses"))
    skipped: Counter[str] = Counter()
    found = []
    for idx, systems in read_systems(path, skipped):
        if idx not in instances:
            raise ValueError(
                f"{path} answers the instruction {idx}, which the evaluation set does not have"
            )
        wanted = config.systems or tuple(systems)
        if own := {system: text for system, text in systems.items() if system in wanted}:
            found.append((instances[idx], own))
    if skipped["blank response"]:
        job.note(f"{skipped['blank response']} left out: blank response")
    if not found:
        raise ValueError(f"{path} has no response of {', '.join(config.systems) or 'any system'}")
    return job.limited(found, lambda one: _name(one[0]))


def _written(job: Job, instances: Sequence[Instance]) -> Responses:
    """One response of the policy to each instruction that leaves room for it."""
    model = job.policy
    tokenizer, room = model.policy.tokenizer, model.policy.context_tokens
    prompts = {}
    kept = job.limited(instances, _name)
    for instance in kept:
        tokens = tuple(prompt_ids(tokenizer, instance.instruction))
        if room is None or len(tokens) + job.config.max_new_tokens <= room:
            prompts[_name(instance)] = tokens
    if lost := len(kept) - len(prompts):
        job.note(f"{lost} instructions left out: too long for the policy")
    once = replace(job, config=replace(job.config, responses_per_prompt=1))
    said = dict(zip(prompts, collapse.responses(once, model, prompts, "policy"), strict=True))
    return [
        (instance, {model.name: said[name].texts[0]})
        for instance in kept
        if (name := _name(instance)) in said and said[name].texts[0].strip()
    ]


def _name(instance: Instance) -> str:
    return f"flask-{instance.idx:04d}"


def _judged(job: Job, responses: Responses, hard: frozenset[int]) -> dict[str, Figure]:
    rubrics = load_rubrics(job.config.rubrics)
    job.facts["rubrics"] = rubrics.fingerprint
    asked = [
        (instance, system, text) for instance, own in responses for system, text in own.items()
    ]
    questions = [
        Question(
            f"{instance.idx}/{system}",
            rubrics.messages(instance.instruction, text, instance.answer, skills_of(instance)),
            partial(read_scores, skills=skills_of(instance)),
        )
        for instance, system, text in asked
    ]
    said = verdicts(job, questions)
    rated: dict[str, list[Rated]] = {}
    for (instance, system, _), verdict in zip(asked, said, strict=True):
        scores = None if isinstance(verdict, Failure) else verdict
        rated.setdefault(system, []).append(Rated(instance, scores))
    return _reported(job, rated, hard, {"middle of the scale": MIDDLE}, (1.0, 5.0))


def _by_heads(
    read: Mapping[str, Sequence[Read]],
    model: Model,
    *,
    job: Job,
    systems: Mapping[str, tuple[Instance, tuple[str, ...]]],
    hard: frozenset[int],
) -> dict[str, Figure]:
    calibrations = {head.name: head.calibration for head in model.heads}
    rated: dict[str, list[Rated]] = {}
    for example, readings in read["instructions"]:
        instance, names = systems[example.prompt_id]
        for system, reading in zip(names, readings, strict=True):
            scores = {
                skill: (reading.heads[head].value - calibrations[head].mean)
                / calibrations[head].std
                for skill in skills_of(instance)
                if (head := HEADS.get(skill)) in calibrations
            }
            rated.setdefault(system, []).append(Rated(instance, scores))
    return _reported(job, rated, hard, {"mean of the calibration": 0.0}, None, "heads/")


def _reported(
    job: Job,
    rated: Mapping[str, Sequence[Rated]],
    hard: frozenset[int],
    baselines: Mapping[str, float],
    scale: tuple[float, float] | None,
    prefix: str = "",
) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for system, own in rated.items():
        found = aggregate(own, hard, baselines)
        figures |= {f"{prefix}{system}/{name}": figure for name, figure in found.items()}
    job.facts[f"{prefix}by_difficulty"] = {s: by_difficulty(own) for s, own in rated.items()}
    radar = {
        system: {
            skill: figures[name].value
            for skill in SKILLS
            if (name := f"{prefix}{system}/skill/{skill}") in figures
        }
        for system in rated
    }
    job.facts[f"{prefix}radar"] = radar
    if job.out is not None:
        draw_radar(radar, job.out / f"{prefix.replace('/', '-')}radar.png", scale)
    return figures


def skills_of(instance: Instance) -> list[str]:
    """Raises ValueError for a skill that FLASK does not have."""
    found = [skill_of(name) for name in instance.skills]
    for name, skill in zip(instance.skills, found, strict=True):
        if skill is None:
            raise ValueError(
                f"instruction {instance.idx} names the skill {name!r}; known: {', '.join(SKILLS)}"
            )
    return [skill for skill in found if skill is not None]


def aggregate(
    rated: Iterable[Rated], hard: frozenset[int], baselines: Mapping[str, float]
) -> dict[str, Figure]:
    """One system's figures. Each instruction is a prompt of its own.

    Args:
        hard: idx of the instructions of FLASK-Hard.
    """
    rated = list(rated)
    known = [(one.instance, one.scores) for one in rated if one.scores is not None]
    lines = [
        np.array([_number(scores.get(skill)) for skill in SKILLS]) for _, scores in known
    ]  # (12,), NaN where the skill was not asked for or does not apply
    figures: dict[str, Figure] = {}

    def add(name: str, keep: Callable[[Instance], bool], columns: Sequence[int]) -> None:
        rows = [
            values[~np.isnan(values)]
            for (instance, _), line in zip(known, lines, strict=True)
            if keep(instance) and len(values := line[list(columns)])
        ]
        if any(map(len, rows)):
            figures[name] = metrics.mean(rows, baselines=baselines)

    places = {skill: place for place, skill in enumerate(SKILLS)}
    for skill, place in places.items():
        add(f"skill/{skill}", lambda _: True, [place])
    figures |= _abilities(lines, baselines)
    for level in LEVELS:
        add(f"difficulty/{level}", lambda i, level=level: i.difficulty == level, range(len(SKILLS)))
    for domain in sorted({domain for instance, _ in known for domain in instance.domains}):
        add(f"domain/{domain}", lambda i, d=domain: d in i.domains, range(len(SKILLS)))
    for skill, place in places.items():
        add(f"hard/{skill}", lambda i: i.idx in hard, [place])
    applicable = [
        np.array([float(score is None) for score in scores.values()]) for _, scores in known
    ]
    if any(map(len, applicable)):
        figures["na_rate"] = metrics.mean(applicable, baselines={"none": 0.0})
    figures["no_verdict"] = metrics.mean(
        [np.array([float(one.scores is None)]) for one in rated], baselines={"none": 0.0}
    )
    return figures


def _abilities(lines: Sequence[np.ndarray], baselines: Mapping[str, float]) -> dict[str, Figure]:
    """The mean of its skills' means, so that a skill that many instructions name does not outweigh the others."""
    figures = {}
    for ability, skills in ABILITIES.items():
        columns = [SKILLS.index(skill) for skill in skills]
        rows = [line[None, columns] for line in lines if not np.isnan(line[columns]).all()]
        if rows:
            figures[f"ability/{ability}"] = metrics.bootstrap(
                rows, _mean_of_means, baselines=baselines
            )
    return figures


def _mean_of_means(rows: np.ndarray) -> float:
    """rows: (I, S) scores, NaN where there is none."""
    known = ~np.isnan(rows)
    count = known.sum(axis=0)
    means = np.where(known, rows, 0.0).sum(axis=0)[count > 0] / count[count > 0]
    return float(means.mean())


def by_difficulty(rated: Iterable[Rated]) -> dict[str, list[dict[str, Any]]]:
    """Skill -> for each level n, mean, and the mean of all scores up to it, as the reference code tabulates them."""
    table: dict[str, list[dict[str, Any]]] = {}
    rated = list(rated)
    for skill in SKILLS:
        so_far: list[float] = []
        rows = []
        for level in LEVELS:
            own = [
                score
                for one in rated
                if one.instance.difficulty == level
                and (score := (one.scores or {}).get(skill)) is not None
            ]
            so_far += own
            rows.append(
                {
                    "level": level,
                    "n": len(own),
                    "mean": float(np.mean(own)) if own else None,
                    "cumulative": float(np.mean(so_far)) if so_far else None,
                }
            )
        if so_far:
            table[skill] = rows
    return table


def _number(score: float | None) -> float:
    return np.nan if score is None else float(score)
