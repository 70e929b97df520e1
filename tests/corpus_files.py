"""One small good record of every corpus: written here, so no test needs the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import feedback_files

Record = dict[str, Any]


def hh(number: int) -> Record:
    history = f"\n\nHuman: Hello {number}\n\nAssistant: Hi.\n\nHuman: What is a gull?\n\nAssistant:"
    return {
        "id": f"hh-{number}",
        "conversation_id": f"hhc-{number}",
        "prompt_end": len(history),
        "chosen": f"{history} A bird.",
        "rejected": f"{history} No idea.",
    }


def halueval_general(number: int) -> Record:
    return {
        "record_id": f"g-{number}",
        "ID": "1",
        "user_query": f"Who built tower {number}?",
        "chatgpt_response": "Anna Berg did. She was ten.",
        "hallucination": "yes",
        "hallucination_spans": ["She was ten."],
        "span_offsets": [[15, 27]],
    }


def halueval_qa(number: int) -> Record:
    return {
        "question_id": f"qa-{number}",
        "method": "one-turn",
        "knowledge": "The tower was built by Anna Berg.",
        "question": f"Who built tower {number}?",
        "right_answer": "Anna Berg",
        "hallucinated_answer": "Bob built it.",
    }


def haluquestqa(number: int) -> Record:
    scores = {"factuality": 1.0, "completeness": 0.5}
    return {
        "id": number,
        "annotator": "expert",
        "question": f"Why do gulls nest on cliff {number}?",
        "answers": [
            {"author": "human_answer", "text": "Foxes. Also the view."},
            {"author": "model_answer", "text": "Foxes cannot climb. It is safe."},
        ],
        "errors": [
            {"aspect": "irrelevance", "target": "answer1", "span": "x", "offsets": [7, 21]},
            {"aspect": "incomplete_ans", "target": "answer1", "span": "y", "offsets": None},
            {"aspect": "factuality", "target": "answer2", "span": "z", "offsets": [0, 19]},
            {"aspect": "ques_misconception", "target": "question1", "span": "q", "offsets": None},
        ],
        "preferred": 1,
        "scores": {"human": scores, "model": scores | {"completeness": 1.0}},
    }


def haluquestqa_sentences(number: int) -> Record:
    return {
        "id": number,
        "instruction": "not read",
        "input": f"Question: Why {number}?\nAnswer: 1. Foxes cannot climb.\n2. It is safe.",
        "output": "1. [Complete]\n2. [Incomplete] Reasons: From whom?",
    }


def ranked(number: int, judgments: list[Record], **of_each: list[Any]) -> Record:
    """Three responses; `of_each` gives further fields, one value a response."""
    return {
        "prompt_id": f"p-{number}",
        "prompt": f"Name bird {number}.",
        "judge": "gpt-4",
        "responses": [
            {"response_id": f"r{k}", "model": "m", "text": text, "score": 0.5}
            | {name: values[k] for name, values in of_each.items()}
            for k, text in enumerate(("A gull.", "A tern.", "A plane."))
        ],
        "judgments": judgments,
    }


def pandalm(number: int) -> Record:
    return ranked(
        number,
        [
            {"a": "r0", "b": "r1", "labels": [1, 2, 0]},
            {"a": "r2", "b": "r0", "labels": [2, 2, 2]},
        ],
    )


def tulu(number: int) -> Record:
    return ranked(
        number,
        [
            {"a": "r0", "b": "r1", "preference": "a-is-slightly-better", "annotator": "ann"},
            {"a": "r0", "b": "r1", "preference": "b-is-better", "annotator": "bob"},
            {"a": "r1", "b": "r2", "preference": "tie", "annotator": "bob"},
        ],
    )


def vicuna80(number: int) -> Record:
    return ranked(
        number,
        [
            {"a": "r0", "b": "r1", "label": 1},
            {"a": "r1", "b": "r0", "label": None},
            {"a": "r1", "b": "r2", "label": 0},
        ],
    )


def alpaca(number: int) -> Record:
    return ranked(number, [], score=[0.9, 0.895, 0.2])


def prometheus(number: int) -> Record:
    return ranked(number, [], ratings=[[5, 4], [5, 2], [1, 1]])


def flask(number: int) -> Record:
    responses = {"gpt4": "A gull.", "davinci_003": " ", "tulu_7b": "A tern."}
    return {"idx": number, "instruction": f"Name bird {number}.", "responses": responses}


def own(number: int) -> Record:
    return {
        "id": f"own-{number}",
        "prompt": "Name a bird.",
        "responses": ["A gull.", "A tern.", "A plane."],
        "rankings": [{"ranks": [1, 1, 2], "rater": "ann", "margin": 0.5}],
        "pairs": [{"chosen": 1, "rejected": 2, "kind": "coverage", "rater": "bob"}],
        "ties": [{"first": 0, "second": 1}],
        "ratings": [
            {"response": 0, "value": 5, "rater": "ann"},
            {"response": 2, "value": 1, "rater": "ann"},
        ],
        "spans": {"factuality": [[], None, [[2, 7]]]},
        "ignored": {"factuality": [[[0, 1]], None, []]},
    }


RECORDS: dict[str, Callable[[int], Record]] = {
    "qa_feedback": feedback_files.feedback_record,
    "qa_feedback_train": feedback_files.feedback_record,
    "hh_harmless": hh,
    "hh_harmless_train": hh,
    "hh_helpful": hh,
    "hh_helpful_train": hh,
    "hh_helpful_cleaned": hh,
    "halueval_general": halueval_general,
    "halueval_qa": halueval_qa,
    "haluquestqa": haluquestqa,
    "haluquestqa_sentences": haluquestqa_sentences,
    "pandalm_human": pandalm,
    "tulu_human": tulu,
    "vicuna80_gpt4": vicuna80,
    "alpaca_eval_gpt4": alpaca,
    "prometheus_gpt4": prometheus,
    "flask": flask,
    "own": own,
}
"""Name of a corpus -> its record of a number."""
