"""The suites by name: what each can judge, and its entry function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tureen.errors import nearest
from tureen_training.evaluation import (
    collapse,
    critique,
    crows_pairs,
    flask,
    halueval,
    hh_rlhf,
    oversight,
    qa_feedback,
    ranked,
    reward_bias,
    rewardbench,
    rewardbench2,
    rm_bench,
    robustness,
    truthfulqa,
    win_rate,
    winogender,
)
from tureen_training.evaluation.job import Figures, Job
from tureen_training.evaluation.subjects import FLAGS, Subject, Takes, described

REWARD = frozenset({Subject.REWARD})
POLICY = frozenset({Subject.POLICY})
TWO_POLICIES = frozenset({Subject.TWO_POLICIES})
JUDGE = frozenset({Subject.JUDGE})


@dataclass(frozen=True, slots=True)
class Suite:
    """about: one phrase. takes: the ways to give it what it judges, each a set of what is then needed together;
    where several are given, the suite does all of them. evaluate: its entry function."""

    about: str
    takes: Takes
    evaluate: Callable[[Job], Figures]

    def judges(self, given: frozenset[Subject]) -> bool:
        return any(way <= given for way in self.takes)


SUITES: Mapping[str, Suite] = {
    "qa_feedback": Suite(
        "answers with evidence, as people annotated them", (REWARD,), qa_feedback.evaluate
    ),
    "hh_rlhf": Suite("which of two dialogues people preferred", (REWARD,), hh_rlhf.evaluate),
    "halueval": Suite("what was made up", (REWARD, POLICY), halueval.evaluate),
    "truthfulqa": Suite(
        "true answers against common falsehoods",
        (POLICY, REWARD, POLICY | {Subject.JUDGE}),
        truthfulqa.evaluate,
    ),
    "crows_pairs": Suite(
        "stereotypes, of masked and causal models", (POLICY,), crows_pairs.evaluate
    ),
    "winogender": Suite(
        "he, she and they by occupation, of masked and causal models",
        (POLICY,),
        winogender.evaluate,
    ),
    "reward_bias": Suite("whom a reward favours", (REWARD,), reward_bias.evaluate),
    "collapse": Suite(
        "diversity, entropy and alignment tax, before and after",
        (TWO_POLICIES, POLICY),
        collapse.evaluate,
    ),
    "ranked": Suite("ranked responses of several systems", (REWARD,), ranked.evaluate),
    "rewardbench": Suite("RewardBench: pairs in four sections", (REWARD,), rewardbench.evaluate),
    "rewardbench2": Suite(
        "RewardBench 2: best of four, and ties", (REWARD,), rewardbench2.evaluate
    ),
    "robustness": Suite("edits that a reward must see through", (REWARD,), robustness.evaluate),
    "rm_bench": Suite("RM-Bench: substance against style", (REWARD,), rm_bench.evaluate),
    "flask": Suite(
        "twelve skills, by a judge or by heads",
        (JUDGE, REWARD, POLICY | JUDGE, POLICY | REWARD),
        flask.evaluate,
    ),
    "oversight": Suite(
        "where reward, judge and people differ", (REWARD, REWARD | JUDGE), oversight.evaluate
    ),
    "critique": Suite(
        "faults by segment, of a judge beside the heads", (JUDGE, JUDGE | REWARD), critique.evaluate
    ),
    "win_rate": Suite(
        "how often one policy's responses beat another's",
        (TWO_POLICIES | REWARD, TWO_POLICIES | JUDGE),
        win_rate.evaluate,
    ),
}


def chosen(names: str, given: frozenset[Subject]) -> list[str]:
    """The suites of `--suite`, in the order of the registry where it says all.

    Raises:
        ValueError: an unknown name, a suite that cannot judge what is given, or a thing given that no suite judges.
    """
    if names == "all":
        able = [name for name, suite in SUITES.items() if suite.judges(given)]
        if not able:
            raise ValueError(f"no suite judges {_listed(given)} alone; known:\n{listing()}")
        return able
    wanted = list(dict.fromkeys(name.strip() for name in names.split(",")))
    for name in wanted:
        if name not in SUITES:
            raise ValueError(f"suite is {name!r}{nearest(name, [*SUITES, 'all'])}")
        if not SUITES[name].judges(given):
            raise ValueError(
                f"the suite {name} judges {described(SUITES[name].takes)}; given is {_listed(given)}"
            )
    used = frozenset().union(*(way for name in wanted for way in SUITES[name].takes))
    if idle := given - used:
        raise ValueError(
            f"{_listed(idle)} was given, which {' and '.join(wanted)} do not judge; leave it out or add a suite:\n"
            f"{listing()}"
        )
    return wanted


def listing() -> str:
    """One line a suite."""
    return "\n".join(
        f"  {name:14s}{suite.about}; takes {described(suite.takes)}"
        for name, suite in SUITES.items()
    )


def _listed(subjects: frozenset[Subject]) -> str:
    return " and ".join(
        f"{subject} ({FLAGS[subject]})" for subject in Subject if subject in subjects
    )
