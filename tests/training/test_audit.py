"""The stage with pico models; that planted errors are found is shown in annotators/test_suspects.py."""

import json
from pathlib import Path

import pico
import pytest

from tureen_training.audit import Config, main


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("audit")
    pico.bert_reward(root / "one")
    pico.bert_reward(root / "two", seed=1)
    records = [
        {
            "id": f"q{n}",
            "prompt": f"{n}?",
            "responses": [f"yes {n}", f"no, {n + 1}", "so"],
            "pairs": [
                {"chosen": n % 3, "rejected": (n + 1) % 3, "rater": "ann"},
                {"chosen": (n + 2) % 3, "rejected": n % 3, "rater": "bob"},
            ],
        }
        for n in range(10)
    ]
    (root / "mine.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return root


def config(root: Path, **changes) -> Config:
    fields = {"data": str(root / "mine.jsonl"), "models": (str(root / "one"), str(root / "two"))}
    return Config(**{**fields, **changes})


def test_the_list_is_ordered_and_the_data_untouched(root, tmp_path, capsys):
    before = (root / "mine.jsonl").read_bytes()
    out = tmp_path / "suspects.jsonl"
    summary = main(config(root, share=0.25, out=str(out)))
    assert (summary.comparisons, summary.prompts, summary.members) == (20, 10, 2)
    suspects = [json.loads(line) for line in out.read_text().splitlines()]
    assert [s["rank"] for s in suspects] == [1, 2, 3, 4, 5]
    margins = [s["margin"] for s in suspects]
    assert margins == sorted(margins)
    assert suspects[0]["chosen_text"] != suspects[0]["rejected_text"]
    assert sum(listed for listed, _ in summary.by_rater.values()) == 5
    assert (root / "mine.jsonl").read_bytes() == before
    printed = capsys.readouterr().out
    assert "Nothing was relabelled." in printed
    assert json.loads(printed.splitlines()[-1])["listed"] == 5


def test_turning_every_label_turns_every_margin(root, tmp_path):
    flipped = []
    for line in (root / "mine.jsonl").read_text().splitlines():
        record = json.loads(line)
        for pair in record["pairs"]:
            pair["chosen"], pair["rejected"] = pair["rejected"], pair["chosen"]
        flipped.append(json.dumps(record))
    path = tmp_path / "flipped.jsonl"
    path.write_text("\n".join(flipped) + "\n")
    assert main(config(root)).negative == pytest.approx(
        1 - main(config(root, data=str(path))).negative
    )


def test_folds_make_members_of_their_own(root):
    summary = main(config(root, folds=5, members=4))
    assert (summary.members, summary.out_of_fold) == (4, True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ()}, "no model votes"),
        ({"share": 0.0}, "at most 1"),
        ({"split": "tset"}, "did you mean 'test'"),
        ({"head": "prefrence"}, "did you mean 'preference'"),
        ({"folds": 11}, "from 2 to the number of prompts, 10"),
    ],
)
def test_bad_settings_say_what_to_give(root, changes, message):
    with pytest.raises(ValueError, match=message):
        main(config(root, **changes))
