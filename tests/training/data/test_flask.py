from collections import Counter

import corpus_files
import feedback_files

from tureen_training.data.flask import Instance, read_flask, read_instances, read_systems


def test_blank_responses_are_left_out_and_counted(tmp_path):
    nothing = {"idx": 8, "instruction": "Say nothing.", "responses": {"gpt4": ""}}
    path = feedback_files.write(tmp_path / "f.jsonl", [corpus_files.flask(7), nothing])
    skipped: Counter[str] = Counter()
    (example,) = read_flask(path, skipped, "flask")
    assert (example.prompt_id, example.responses) == ("flask-0007", ("A gull.", "A tern."))
    assert skipped == {"blank response": 2, "prompt without a response": 1}


def test_instructions_and_the_responses_by_system(tmp_path):
    record = {
        "idx": 7,
        "instruction": "Name bird 7.",
        "answer": "A gull.",
        "task": "t",
        "skill": ["Logical Robustness"],
        "domain": ["Math", "-1"],
        "difficulty": None,
    }
    (instance,) = read_instances(feedback_files.write(tmp_path / "e.jsonl", [record]))
    assert instance == Instance(
        idx=7,
        instruction="Name bird 7.",
        answer="A gull.",
        skills=("Logical Robustness",),
        domains=("Math",),
        difficulty=None,
    )
    path = feedback_files.write(tmp_path / "r.jsonl", [corpus_files.flask(7)])
    skipped: Counter[str] = Counter()
    assert list(read_systems(path, skipped)) == [(7, {"gpt4": "A gull.", "tulu_7b": "A tern."})]
    assert skipped == {"blank response": 1}
