"""The world on disk, and who may read which part of it."""

import json
from pathlib import Path

import grimp
import pytest

from tureen_training.data.own import read_own
from tureen_training.policies import load_tokenizer
from tureen_training.worlds.almanac.annotators import PANEL
from tureen_training.worlds.almanac.dataset import Sizes, read_items, write
from tureen_training.worlds.almanac.errors import Habits
from tureen_training.worlds.almanac.gold import judge

SIZES = Sizes(
    names=12, replay=40, rehearsal=10, sft=30, feedback=10, panel=5, train=10, validation=5, test=10
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    out = tmp_path_factory.mktemp("almanac")
    counts = write(out, SIZES, Habits())
    return out, counts


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_files_hold_what_was_asked_for_and_the_same_again(world, tmp_path):
    out, counts = world
    assert counts["sft"] == len(lines(out / "sft.jsonl")) == 30
    assert counts["cloze"] == 24 * 4 + 36
    write(tmp_path, SIZES, Habits())
    for name in counts:
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (out / f"{name}.jsonl").read_bytes()


def test_feedback_is_read_by_our_own_reader(world):
    out, _ = world
    for annotator in PANEL:
        examples = list(read_own(out / "feedback" / f"{annotator.name}.jsonl", "almanac"))
        assert len(examples) == 10
        raters = {p.rater for e in examples for pairs in e.pairs.values() for p in pairs}
        assert raters == {annotator.name}
    panel = list(read_own(out / "feedback" / "panel.jsonl", "almanac"))
    assert {p.rater for e in panel for pairs in e.pairs.values() for p in pairs} == {
        annotator.name for annotator in PANEL
    }


def test_what_training_reads_holds_no_gold_and_no_page_of_the_test(world):
    out, _ = world
    training = [out / "sft.jsonl", out / "prompts_train.jsonl", out / "replay.jsonl"]
    training += list((out / "feedback").iterdir())
    held_out = [
        passage
        for part in ("validation", "test")
        for item in read_items(out / "gold" / f"{part}.jsonl")
        for passage in item.context
    ]
    for path in training:
        text = path.read_text()
        assert '"asked"' not in text
        assert '"facts"' not in text
        assert not [passage for passage in held_out if passage in text]


def test_prompts_and_their_gold_go_together(world):
    out, _ = world
    items = {item.id: item for item in read_items(out / "gold" / "test.jsonl")}
    for record in lines(out / "prompts_test.jsonl"):
        item = items[record["id"]]
        assert (record["prompt"], tuple(record["context"])) == (item.prompt, item.context)
        assert judge(item, "").missing_facts == len(item.asked)


def test_every_word_of_the_world_is_one_token_and_any_other_text_is_bytes(world):
    out, _ = world
    tokenizer = load_tokenizer(out / "tokenizer")
    for record in lines(out / "sft.jsonl"):
        text = f" {record['response']}"
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert len(ids) == len(text.split()) + text.count(".")
    assert tokenizer.decode(tokenizer("żółw 12?")["input_ids"]) == "żółw 12?"


def test_no_stage_of_training_can_reach_the_gold_judge():
    """Only the world itself and the demonstrations import it, directly or through anything else."""
    graph = grimp.build_graph("tureen_training")
    allowed = ("tureen_training.worlds", "tureen_training.demo")
    stages = [name for name in graph.modules if not name.startswith(allowed)]
    assert {"tureen_training.sft", "tureen_training.reward", "tureen_training.soup"} <= set(stages)
    gold = "tureen_training.worlds.almanac.gold"
    assert graph.find_modules_that_directly_import(gold)
    reaching = graph.find_downstream_modules(gold)
    assert not reaching & set(stages)
