"""The corpora of feedback by name: which file, which reader, under what licence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TypeAlias

from tureen.errors import nearest
from tureen_training.data.flask import read_flask
from tureen_training.data.halueval import read_general, read_qa
from tureen_training.data.haluquestqa import read_answers, read_sentences
from tureen_training.data.hh_rlhf import read_hh
from tureen_training.data.jsonl import find, stem_of
from tureen_training.data.labels import feedback_example
from tureen_training.data.own import read_own
from tureen_training.data.qa_feedback import read_feedback
from tureen_training.data.ranked import (
    read_alpaca,
    read_pandalm,
    read_prometheus,
    read_tulu,
    read_vicuna80,
)
from tureen_training.data.records import Example, Split

Read: TypeAlias = Callable[[Path, Counter[str], str], Iterator[Example]]
"""(file, counter of what is left out and why, name of the corpus) -> its examples."""

_NON_COMMERCIAL = "is for non-commercial use only, and so would be the model"


class Use(StrEnum):
    TRAINING = "training"
    EVALUATION = "evaluation"


class LicenceRefused(ValueError):
    """A corpus whose licence does not simply allow training was asked for to train on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """One corpus of feedback.

    folder, files: it is the first of the files (without suffix) in the directory given, or in its `folder`.
    licences: lines of a model card; empty where only the user can know.
    restriction: why no model is trained on it unasked; empty where the licence allows that.
    """

    folder: str
    files: tuple[str, ...]
    read: Read
    licences: tuple[str, ...]
    restriction: str = ""

    def file(self, path: Path) -> Path:
        """`path` itself if it is a file, else this corpus's file in it.

        Raises:
            FileNotFoundError: it is not there.
        """
        if path.is_file():
            return path
        inside = path / self.folder
        return find(inside if inside.is_dir() else path, *self.files)


def _ranked(name: str, read: Read, licence: str, restriction: str = "") -> Corpus:
    return Corpus(
        folder="ranked_responses",
        files=(name,),
        read=read,
        licences=(licence,),
        restriction=restriction,
    )


def _hh(licence: str, *files: str, restriction: str = "") -> Corpus:
    return Corpus(
        folder="hh_rlhf", files=files, read=read_hh, licences=(licence,), restriction=restriction
    )


def _plain(read: Callable[[Path, str], Iterator[Example]]) -> Read:
    """A reader that leaves nothing out."""
    return lambda path, skipped, origin: read(path, origin)


def _feedback(path: Path, origin: str) -> Iterator[Example]:
    return map(feedback_example, read_feedback(path))


_QA_FEEDBACK = partial(
    Corpus,
    folder="qa_feedback",
    read=_plain(_feedback),
    licences=(
        "QA-Feedback (Wu et al. 2023): Apache-2.0",
        "passages of QA-Feedback, from Wikipedia: CC BY-SA",
    ),
)
_HH = "HH-RLHF (Bai et al. 2022): MIT"
_HALUEVAL = partial(Corpus, folder="halueval", licences=("HaluEval (Li et al. 2023): MIT",))
_HALUQUESTQA = partial(
    Corpus,
    folder="haluquestqa",
    licences=("HaluQuestQA (Sachdeva et al. 2024): CC BY-SA 4.0",),
)

CORPORA: dict[str, Corpus] = {
    "qa_feedback": _QA_FEEDBACK(files=("dev_feedback",)),
    "qa_feedback_train": _QA_FEEDBACK(files=("train_feedback",)),
    "hh_harmless": _hh(_HH, "harmless-base.test", "harmless-base/test"),
    "hh_harmless_train": _hh(_HH, "harmless-base/train"),
    "hh_helpful": _hh(_HH, "helpful-base/test"),
    "hh_helpful_train": _hh(_HH, "helpful-base/train"),
    "hh_helpful_cleaned": _hh(
        "HH-RLHF (Bai et al. 2022), copy cleaned by Cheng et al. 2023: MIT, the copy CC BY-NC 4.0",
        "helpful-base.test",
        restriction=_NON_COMMERCIAL,
    ),
    "halueval_general": _HALUEVAL(files=("general", "general_data"), read=_plain(read_general)),
    "halueval_qa": _HALUEVAL(files=("qa_candidates", "qa_data"), read=_plain(read_qa)),
    "haluquestqa": _HALUQUESTQA(files=("haluquestqa",), read=_plain(read_answers)),
    "haluquestqa_sentences": _HALUQUESTQA(
        files=("completeness_sentences",), read=_plain(read_sentences)
    ),
    "pandalm_human": _ranked(
        "pandalm_human", read_pandalm, "PandaLM test set (Wang et al. 2024): Apache-2.0"
    ),
    "tulu_human": _ranked(
        "tulu_human", read_tulu, "Tulu human evaluation (Wang et al. 2023): Apache-2.0"
    ),
    "alpaca_eval_gpt4": _ranked(
        "alpaca_eval_gpt4",
        read_alpaca,
        "AlpacaEval (Li et al. 2023): CC BY-NC 4.0",
        _NON_COMMERCIAL,
    ),
    "vicuna80_gpt4": _ranked(
        "vicuna80_gpt4", read_vicuna80, "Vicuna-80 judgments of QLoRA (Dettmers et al. 2023): MIT"
    ),
    "prometheus_gpt4": _ranked(
        "prometheus_gpt4", read_prometheus, "Prometheus ratings (Kim et al. 2023): Apache-2.0"
    ),
    "flask": Corpus(
        folder="flask",
        files=("responses",),
        read=read_flask,
        licences=("FLASK (Ye et al. 2023): no licence stated",),
        restriction="states no licence, and has no ratings to learn from",
    ),
    "own": Corpus(folder=".", files=("feedback",), read=_plain(read_own), licences=()),
}


class Examples(Iterator[Example]):
    """The examples of one corpus, streamed, and what was met on the way.

    skipped: records, responses or judgments left out so far, by reason.
    cycles: (prompt_id, rater, responses each preferred to the next and the last to the first) so far.
    """

    def __init__(self, corpus: Corpus, name: str, path: Path, split: Split | None) -> None:
        self.licences = corpus.licences
        self.skipped: Counter[str] = Counter()
        self.cycles: list[tuple[str, str | None, tuple[int, ...]]] = []
        self._examples = corpus.read(corpus.file(path), self.skipped, name)
        self._split = split

    def __next__(self) -> Example:
        while True:
            example = next(self._examples)
            if self._split is None or example.split == self._split:
                break
        self.cycles += [(example.prompt_id, rater, circle) for rater, circle in example.cycles()]
        return example

    def remarks(self) -> list[str]:
        """What a log should say of the data read so far; empty where all is in order."""
        said = [f"{count} × {reason} left out" for reason, count in self.skipped.items() if count]
        if self.cycles:
            prompt_id, rater, circle = self.cycles[0]
            said.append(
                f"{len(self.cycles)} raters' preferences run in a circle, the first on {prompt_id}: "
                f"{rater or 'rater unknown'} prefers {' over '.join(map(str, (*circle, circle[0])))}"
            )
        return said


def open_corpus(
    name: str,
    path: Path,
    *,
    use: Use,
    split: Split | None = None,
    accept: Collection[str] = (),
) -> Examples:
    """The examples of a corpus, one at a time.

    Args:
        path: the file, its directory, or the directory of all data.
        split: the part of the fixed split to read; None is all of it.
        accept: corpora to be trained on in spite of their restriction.

    Raises:
        ValueError: an unknown name; the message offers the nearest one.
        LicenceRefused: it may not simply be trained on, and was not accepted.
        FileNotFoundError: no such file.
        BadData: while reading, with file and line.
    """
    if name not in CORPORA:
        raise ValueError(f"unknown corpus {name!r}{nearest(name, CORPORA)}")
    corpus = CORPORA[name]
    if use is Use.TRAINING and corpus.restriction and name not in accept:
        raise LicenceRefused(
            f"{name} is not trained on unasked: {'; '.join(corpus.licences)}. It {corpus.restriction}. "
            "Evaluation may read it; to train on it all the same, accept it by name."
        )
    return Examples(corpus, name, path, split)


def open_file(path: Path, corpus: str = "", *, labelled: bool = True) -> Examples:
    """The examples of one file, to look at and not to train on.

    Args:
        corpus: its name among `CORPORA`; empty for the one whose file is called so, else our own format.
        labelled: whether a record of our own format without any feedback is an error.

    Raises:
        ValueError, FileNotFoundError, BadData: as `open_corpus`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file; give one file of feedback")
    stem = stem_of(path)
    name = corpus or next((n for n, known in CORPORA.items() if stem in known.files), "own")
    if name == "own" and not labelled:
        reader = replace(CORPORA[name], read=_plain(partial(read_own, labelled=False)))
        return Examples(reader, name, path, None)
    return open_corpus(name, path, use=Use.EVALUATION)
