from pathlib import Path

import feedback_files
import pytest
import yaml

from tureen_training import cli, reward, soup
from tureen_training.data.records import Split, split_of
from tureen_training.data.sets import feedback_examples, focused, training_examples

RECIPES = Path(__file__).parents[2] / "training" / "recipes"


def test_parts_are_disjoint_and_whole(tmp_path):
    data = feedback_files.directory(tmp_path)
    parts = [{e.prompt_id for e in feedback_examples(data, split)} for split in Split]
    assert all(parts)
    assert sum(map(len, parts)) == len(set().union(*parts)) == 40


def test_training_never_meets_a_held_out_question(tmp_path):
    data = feedback_files.directory(tmp_path)
    for origin in ("feedback", "contrast"):
        for example in training_examples(data, origin):
            assert origin == "contrast" or split_of(example.prompt_id) == Split.TRAIN
    with pytest.raises(ValueError, match="unknown origin 'contrasts'; did you mean 'contrast'"):
        training_examples(data, "contrasts")


def test_contrast_data_are_the_same_every_time(tmp_path):
    data = feedback_files.directory(tmp_path)
    assert list(training_examples(data, "contrast")) == list(training_examples(data, "contrast"))


def test_focus_leaves_everything_but_the_context(tmp_path):
    example = next(feedback_examples(feedback_files.directory(tmp_path), None))
    short = focused(example, 12)
    assert 0 < sum(len(text.split()) for text in short.context) <= 12
    assert (short.responses, short.pairs, short.spans) == (
        example.responses,
        example.pairs,
        example.spans,
    )


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_are_readable(path: Path):
    kind = soup.Config if path.stem == "soup" else reward.Config
    config = cli.configuration(kind, ["--config", str(path), "--data", "DIR"])
    if isinstance(config, reward.Config):
        assert config.name == path.stem
        assert set(config.mix) <= {"feedback", "contrast"}


def test_the_soup_is_made_of_the_recipes():
    ingredients = yaml.safe_load((RECIPES / "grounded-qa" / "soup.yaml").read_text())["ingredients"]
    outs = {
        yaml.safe_load(path.read_text())["out"]
        for path in (RECIPES / "grounded-qa").glob("*.yaml")
        if path.stem != "soup"
    }
    assert set(ingredients) <= outs
