"""Stage `audit`: the comparisons of a file that models think are the wrong way round, most suspect first.

Models vote by the margin they give the response that the rater preferred. A model that was trained on these very
comparisons has learnt their errors too: give models that were not, `--split test`, or `--folds`, which learns from
the other prompts of this file how the models' heads and the length of a response make a preference. It is a list for
people to look at: nothing is relabelled. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tureen.contracts import ErrorInfo
from tureen.errors import nearest
from tureen.model.files import write_atomically
from tureen_training.annotators.suspects import Suspicion, cross_fit, suspicion
from tureen_training.data.corpora import open_file
from tureen_training.data.records import Comparison, Example, Pair, Split
from tureen_training.evaluation.readings import Outcome, Reading
from tureen_training.evaluation.scorers import DirectoryScorer, Scorer, ServiceScorer
from tureen_training.runlog import progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """List comparisons that are likely mislabelled.

    data: file of comparisons. corpus: what it is; known by the name of the file, else our own format.
    models: the members: directories, or names as `evaluate` takes them. url: of a running service, one more.
    api_key: of the service, if it asks for one.
    head: whose value the members vote with; empty is the reward.
    folds: 0 takes the margins as the models give them; from 2 on they are learnt on the other folds' prompts,
        by `members` regressions.
    split: all, or the train, validation or test part of the fixed split by prompt.
    share: of the comparisons, how many are listed. out: file for the list, JSON Lines; empty writes none.
    max_batch_tokens: of one forward pass.
    """

    data: str
    corpus: str = ""
    models: tuple[str, ...] = ()
    url: str = ""
    api_key: str = ""
    head: str = ""
    folds: int = 0
    members: int = 10
    split: str = "all"
    share: float = 0.2
    out: str = ""
    max_batch_tokens: int = 16384


class Labelled(NamedTuple):
    """One comparison. place: of its example among those read."""

    place: int
    pair: Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """One line of the list; `margin`, `spread` and `against` as in `Suspicion`."""

    rank: int
    prompt_id: str
    split: str
    rater: str | None
    margin: float
    spread: float
    against: int
    members: int
    chosen: int
    rejected: int
    chosen_text: str
    rejected_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """negative: share of the comparisons whose mean margin is below 0. unanimous: share that every member turns
    round. by_rater: listed, of how many, for each rater. unscorable: prompts that a member could not score."""

    comparisons: int
    prompts: int
    members: int
    out_of_fold: bool
    negative: float
    unanimous: float
    listed: int
    by_rater: dict[str, tuple[int, int]]
    unscorable: int


def main(config: Config) -> Summary:
    """Score, rank, print, write, return the summary.

    Raises:
        ValueError: no model, or no comparison to look at.
    """
    if not config.models and not config.url:
        raise ValueError("no model votes; give --models '[DIRECTORY, …]' or --url")
    if not 0 < config.share <= 1:
        raise ValueError(f"share is {config.share}; give more than 0 and at most 1")
    if config.split != "all" and config.split not in tuple(Split):
        known = ["all", *(part.value for part in Split)]
        raise ValueError(f"split is {config.split!r}{nearest(config.split, known)}")
    examples = [
        example
        for example in open_file(Path(config.data), config.corpus)
        if config.split in ("all", example.split)
    ]
    with ExitStack() as open_scorers:
        scorers = [open_scorers.enter_context(closing(scorer)) for scorer in _scorers(config)]
        read = [_read(scorer, examples) for scorer in scorers]
        if config.head:
            for scorer in scorers:
                names = [head.name for head in scorer.model.heads]
                if config.head not in names:
                    raise ValueError(
                        f"{scorer.model.model_id} has no head {config.head!r}{nearest(config.head, names)}"
                    )
    scored = [p for p in range(len(examples)) if all(p in readings for readings in read)]
    labelled = [
        Labelled(place, pair)
        for place in scored
        for pair in examples[place].pairs.get(Comparison.PREFERENCE, ())
    ]
    if not labelled:
        raise ValueError(f"{config.data}: no comparison in the {config.split} part can be scored")
    if config.folds:
        margins = cross_fit(
            _differences(labelled, examples, read),
            np.array([one.place for one in labelled]),
            folds=config.folds,
            members=config.members,
        )
    else:
        margins = np.array([_margins(labelled, readings, config.head) for readings in read])
    found = suspicion(margins)
    suspects = _list(labelled, examples, found, len(margins), config.share)
    summary = Summary(
        comparisons=len(labelled),
        prompts=len({one.place for one in labelled}),
        members=len(margins),
        out_of_fold=bool(config.folds),
        negative=round(float((found.margin < 0).mean()), 4),
        unanimous=round(float((found.against == len(margins)).mean()), 4),
        listed=len(suspects),
        by_rater=_by_rater(labelled, suspects),
        unscorable=len(examples) - len(scored),
    )
    if config.out:
        lines = (json.dumps(asdict(suspect), allow_nan=False) + "\n" for suspect in suspects)
        write_atomically(Path(config.out), "".join(lines))
    print(_table(suspects, summary))  # noqa: T201 - the answer of the command
    print(json.dumps(asdict(summary), allow_nan=False))  # noqa: T201
    return summary


def _scorers(config: Config) -> list[Scorer]:
    scorers: list[Scorer] = [
        DirectoryScorer(model, max_batch_tokens=config.max_batch_tokens) for model in config.models
    ]
    if config.url:
        scorers.append(ServiceScorer(config.url, api_key=config.api_key or None))
    return scorers


def _read(scorer: Scorer, examples: Sequence[Example]) -> dict[int, Sequence[Reading]]:
    """Place -> readings of the example's responses; what the model could not score is absent."""
    outcomes: dict[int, Outcome] = dict(
        progress(scorer.score(examples), scorer.model.model_id, total=len(examples))
    )
    return {p: outcome for p, outcome in outcomes.items() if not isinstance(outcome, ErrorInfo)}


def _margins(
    labelled: Sequence[Labelled], read: Mapping[int, Sequence[Reading]], head: str
) -> list[float]:
    def value(reading: Reading) -> float:
        return reading.heads[head].value if head else reading.reward

    return [
        value(read[place][pair.chosen]) - value(read[place][pair.rejected])
        for place, pair in labelled
    ]


def _differences(
    labelled: Sequence[Labelled],
    examples: Sequence[Example],
    read: Sequence[Mapping[int, Sequence[Reading]]],
) -> np.ndarray:
    """Every member's every head, and the logarithm of the length. (P, D)"""

    def features(place: int, response: int) -> list[float]:
        text = examples[place].responses[response]
        values = [
            head.value for readings in read for head in readings[place][response].heads.values()
        ]
        return [*values, float(np.log1p(len(text)))]

    return np.array(
        [
            np.subtract(features(place, pair.chosen), features(place, pair.rejected))
            for place, pair in labelled
        ]
    )


def _list(
    labelled: Sequence[Labelled],
    examples: Sequence[Example],
    found: Suspicion,
    members: int,
    share: float,
) -> list[Suspect]:
    suspects = []
    for rank, p in enumerate(found.order[: max(1, round(share * len(labelled)))], start=1):
        place, pair = labelled[p]
        example = examples[place]
        suspects.append(
            Suspect(
                rank=rank,
                prompt_id=example.prompt_id,
                split=example.split,
                rater=pair.rater,
                margin=round(float(found.margin[p]), 4),
                spread=round(float(found.spread[p]), 4),
                against=int(found.against[p]),
                members=members,
                chosen=pair.chosen,
                rejected=pair.rejected,
                chosen_text=example.responses[pair.chosen],
                rejected_text=example.responses[pair.rejected],
            )
        )
    return suspects


def _by_rater(
    labelled: Sequence[Labelled], suspects: Sequence[Suspect]
) -> dict[str, tuple[int, int]]:
    total = Counter(one.pair.rater or "rater unknown" for one in labelled)
    listed = Counter(one.rater or "rater unknown" for one in suspects)
    return {rater: (listed[rater], count) for rater, count in total.most_common()}


def _table(suspects: Sequence[Suspect], summary: Summary) -> str:
    """For people: the first twenty, and who gave them."""
    lines = [f"{'rank':>4s} {'margin':>7s} {'against':>8s}  {'prompt':32s} pair     rater"]
    lines += [
        f"{s.rank:4d} {s.margin:7.3f} {s.against:4d}/{s.members:<3d}  {s.prompt_id:32s} "
        f"{s.chosen} > {s.rejected}    {s.rater or '–'}"
        for s in suspects[:20]
    ]
    lines += [
        f"{summary.listed} of {summary.comparisons} comparisons are listed; members give {summary.negative:.1%} a "
        f"mean margin below 0, and turn {summary.unanimous:.1%} round unanimously",
        *(f"  {rater}: {n} of {total} listed" for rater, (n, total) in summary.by_rater.items()),
        "Nothing was relabelled.",
    ]
    return "\n".join(lines)
