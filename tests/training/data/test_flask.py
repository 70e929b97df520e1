from collections import Counter

import corpus_files
import feedback_files

from tureen_training.data.flask import read_flask


def test_blank_responses_are_left_out_and_counted(tmp_path):
    nothing = {"idx": 8, "instruction": "Say nothing.", "responses": {"gpt4": ""}}
    path = feedback_files.write(tmp_path / "f.jsonl", [corpus_files.flask(7), nothing])
    skipped: Counter[str] = Counter()
    (example,) = read_flask(path, skipped, "flask")
    assert (example.prompt_id, example.responses) == ("flask-0007", ("A gull.", "A tern."))
    assert skipped == {"blank response": 2, "prompt without a response": 1}
