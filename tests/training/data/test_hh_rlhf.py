from collections import Counter

import corpus_files
import feedback_files
import pytest

from tureen.contracts import Message
from tureen_training.data.hh_rlhf import read_hh
from tureen_training.data.jsonl import BadData
from tureen_training.data.records import Comparison, Pair

HISTORY = "\n\nHuman: Hello\n\nAssistant: Hi.\n\nHuman: And?\n\nAssistant:"


def read(path, records, skipped=None):
    skipped = Counter() if skipped is None else skipped
    return list(read_hh(feedback_files.write(path, records), skipped, "hh"))


def test_a_transcript_is_messages_and_two_responses(tmp_path):
    (example,) = read(tmp_path / "hh.jsonl.gz", [corpus_files.hh(0)])
    assert example.prompt_id == "hh-0"
    assert example.messages == (
        Message(role="user", content="Hello 0"),
        Message(role="assistant", content="Hi."),
        Message(role="user", content="What is a gull?"),
    )
    assert example.responses == ("A bird.", "No idea.")
    assert example.pairs == {Comparison.PREFERENCE: (Pair(0, 1),)}
    assert example.group == "hhc-0"


def test_the_hub_has_transcripts_alone(tmp_path):
    """The same examples under the same names, as our copies are named after their place on the hub."""
    folder = tmp_path / "harmless-base"
    folder.mkdir()
    bare = [{k: corpus_files.hh(i)[k] for k in ("chosen", "rejected")} for i in range(2)]
    first, second = read(folder / "test.jsonl.gz", bare)
    assert (first.prompt_id, second.prompt_id) == (
        "hh-harmless-base-test-00000",
        "hh-harmless-base-test-00001",
    )
    assert first.responses == ("A bird.", "No idea.")
    assert first.messages is not None
    assert len(first.messages) == 3
    assert first.group == "hello 0"


def test_responses_that_begin_alike_share_no_prompt_beyond_the_last_turn(tmp_path):
    pair = {"chosen": f"{HISTORY} No, sorry.", "rejected": f"{HISTORY} No way."}
    (example,) = read(tmp_path / "hh.jsonl", [pair])
    assert example.responses == ("No, sorry.", "No way.")


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        (f"{HISTORY} ", f"{HISTORY} Well.", "blank response"),
        (f"{HISTORY} Well.", f"{HISTORY} Well. ", "identical responses"),
        (
            f"{HISTORY} Well.\n\nHuman: Go on.\n\nAssistant: No.",
            f"{HISTORY} Hm.\n\nHuman: Go on.\n\nAssistant: Yes.",
            "transcripts part before the last turn",
        ),
    ],
)
def test_what_is_no_pair_is_counted(tmp_path, chosen, rejected, reason):
    skipped: Counter[str] = Counter()
    records = [corpus_files.hh(0), {"chosen": chosen, "rejected": rejected}]
    examples = read(tmp_path / "hh.jsonl", records, skipped)
    assert len(examples) == 1
    assert skipped == {reason: 1}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"prompt_end": 3}, "prompt_end is 3, but"),
        ({"prompt_end": -1}, "prompt_end is -1, but"),
        ({"prompt_end": 10_000}, "prompt_end is 10000, but"),
        (
            {"prompt_end": None, "rejected": "\n\nHuman: Bye\n\nAssistant: Bye."},
            "'chosen' and 'rejected' do not share a prompt",
        ),
        (
            {"prompt_end": None, "chosen": "\n\nAssistant: a", "rejected": "\n\nAssistant: b"},
            "the shared part must begin with a Human turn and end in one",
        ),
        (
            {"prompt_end": None, "chosen": f"x{HISTORY} a", "rejected": f"x{HISTORY} b"},
            "the shared part must begin with a Human turn",
        ),
    ],
)
def test_a_bad_pair_is_named(tmp_path, changes, problem):
    records = [corpus_files.hh(0), corpus_files.hh(1) | changes]
    with pytest.raises(BadData, match=rf"hh\.jsonl:2: {problem}"):
        read(tmp_path / "hh.jsonl", records)
