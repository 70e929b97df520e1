"""What a policy says of what was made up, by hand and from the command on."""

from __future__ import annotations

import json
from pathlib import Path

import pico
import pytest

from tureen_training import evaluate
from tureen_training.evaluation.halueval_policy import INSTRUCTION, Judged, figures


def test_yes_and_no_by_hand():
    # right answers called no, yes; invented ones yes, yes, no, tie (a tie is "No")
    said = [(True, -2.0, -1.0), (True, -1.0, -2.0)]
    said += [(False, -1.0, -2.0), (False, -1.0, -3.0), (False, -3.0, -1.0), (False, -1.0, -1.0)]
    known = [
        (Judged(f"q{n}", f"q{n}", "?", "long" if clean else "longer", clean), (yes, no))
        for n, (clean, yes, no) in enumerate(said)
    ]
    found = figures("qa", known)
    assert found["qa_balanced_accuracy"].value == pytest.approx((2 / 4 + 1 / 2) / 2)
    # "yes" three times, twice rightly, of four
    assert found["qa_f1_yes"].value == pytest.approx(2 * 2 / (3 + 4))
    assert found["qa_yes_rate"].value == 0.5
    # log p(no) − log p(yes): clean 1, −1; invented −1, −2, 2, 0: of 8 pairs won 3 + ½ + 1
    assert found["qa_auroc"].value == pytest.approx((3 + 1.5) / 8)
    assert found["qa_auroc"].baselines["shorter"] == 1.0
    assert figures("qa", known[:2]) == {}


def test_both_candidates_are_shown(inventions: Path, tmp_path: Path, capsys):
    policy = pico.llama_policy(tmp_path / "policy")
    out = tmp_path / "out"
    found = evaluate.main(
        evaluate.Config(suite="halueval", data=str(inventions), policy=str(policy), out=str(out))
    )
    assert found["policy_qa_balanced_accuracy"].prompts == 8
    assert found["policy_qa_balanced_accuracy"].n == 16
    assert {"policy_general_f1_yes", "policy_general_auroc"} <= set(found)
    assert not any(name.startswith(("qa_", "general_")) for name in found)
    report = json.loads((out / "report.json").read_text())
    assert report["qa_instruction"] == "without examples"
    assert found["policy_unscorable"].value == 0


def test_the_published_instruction_is_used_where_it_lies(inventions: Path, tmp_path: Path):
    policy = pico.llama_policy(tmp_path / "policy")
    for path in inventions.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / INSTRUCTION).write_text("I want you act as an answer judge." * 50)
    found = evaluate.main(evaluate.Config(suite="halueval", data=str(tmp_path), policy=str(policy)))
    # 1700 bytes are more than the policy reads: unscorable, never a number
    assert not any(name.startswith("policy_qa") for name in found)
    assert found["policy_unscorable"].value > 0
