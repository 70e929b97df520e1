from pathlib import Path

import feedback_files
import pytest
import yaml

from tureen.model.schema import SchemaError, decode
from tureen_training import cli, reward, soup
from tureen_training.data.corpora import LicenceRefused
from tureen_training.data.records import Comparison, Split, split_of
from tureen_training.data.sets import Source, feedback_examples, focused, only_for

RECIPES = Path(__file__).parents[3] / "training" / "recipes"
SOUPS = ("soup", "refit")
QA, CONTRAST = Source(name="qa_feedback"), Source(name="contrast")


def test_parts_are_disjoint_and_whole(tmp_path):
    data = feedback_files.directory(tmp_path)
    parts = [{e.prompt_id for e in feedback_examples(data, split)} for split in Split]
    assert all(parts)
    assert sum(map(len, parts)) == len(set().union(*parts)) == 40


def test_training_never_meets_a_held_out_question(tmp_path):
    data = feedback_files.directory(tmp_path)
    assert {split_of(e.prompt_id) for e in QA.training(data)} == {Split.TRAIN}
    assert {split_of(e.prompt_id) for e in QA.validation(data)} == {Split.VALIDATION}
    assert len(list(CONTRAST.training(data))) == 4
    assert list(CONTRAST.validation(data)) == []


def test_a_file_that_is_all_training_data_has_no_validation_part(tmp_path):
    data = feedback_files.directory(tmp_path)
    whole = Source(name="qa_feedback", part="all")
    assert len(list(whole.training(data))) == 40
    assert list(whole.validation(data)) == []


def test_contrast_data_are_the_same_every_time(tmp_path):
    data = feedback_files.directory(tmp_path)
    assert list(CONTRAST.training(data)) == list(CONTRAST.training(data))


def test_contrast_data_are_found_where_the_feedback_is(tmp_path):
    feedback_files.directory(tmp_path / "qa_feedback")
    assert list(QA.training(tmp_path)) != []
    assert len(list(CONTRAST.training(tmp_path))) == 4


def test_a_path_starts_from_the_directory_of_the_data(tmp_path):
    feedback_files.directory(tmp_path / "qa")
    source = Source(name="qa_feedback", path="qa")
    assert source.label == "qa_feedback:qa"
    assert len(list(source.training(tmp_path))) == len(list(QA.training(tmp_path / "qa")))


def test_a_source_teaches_only_the_heads_it_is_to_teach(tmp_path):
    data = feedback_files.directory(tmp_path)
    example = next(QA.training(data))
    assert only_for(example, ("preference", "factuality", "relevance", "completeness")) == example
    taught = only_for(example, ("preference",))
    assert set(taught.pairs) == {Comparison.PREFERENCE, Comparison.CORRECTION}
    assert (taught.spans, taught.responses) == ({}, example.responses)
    assert next(Source(name="qa_feedback", heads=("preference",)).training(data)) == taught


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"name": "qa_fedback"}, "unknown corpus 'qa_fedback'; did you mean 'qa_feedback'"),
        ({"name": "contrast", "shar": 1}, "shar is unknown; did you mean 'share'"),
        ({"name": "contrast", "share": -1.0}, "share of contrast is -1.0; it must be 0 or more"),
        ({"name": "contrast", "part": "test"}, "it must be train or all"),
        ({"name": "own", "path": "mine.jsonl"}, "own:mine.jsonl has no licence; state that"),
    ],
)
def test_a_source_that_cannot_be(given, problem):
    with pytest.raises(SchemaError, match=problem):
        decode(Source, given)


def test_a_licence_that_binds_the_model_is_to_be_accepted(tmp_path):
    (tmp_path / "alpaca_eval_gpt4.jsonl").write_text("{}\n")
    with pytest.raises(LicenceRefused, match="non-commercial"):
        next(Source(name="alpaca_eval_gpt4").training(tmp_path))
    with pytest.raises(ValueError, match=r"alpaca_eval_gpt4.jsonl:1: "):  # it is read
        next(Source(name="alpaca_eval_gpt4", accept=True).training(tmp_path))


def test_focus_leaves_everything_but_the_context(tmp_path):
    example = next(feedback_examples(feedback_files.directory(tmp_path), None))
    short = focused(example, 12)
    assert 0 < sum(len(text.split()) for text in short.context) <= 12
    assert (short.responses, short.pairs, short.spans) == (
        example.responses,
        example.pairs,
        example.spans,
    )


@pytest.mark.parametrize(
    "path", sorted((RECIPES / "grounded-qa").glob("*.yaml")), ids=lambda path: path.stem
)
def test_recipes_are_readable(path: Path):
    kind = soup.Config if path.stem in SOUPS else reward.Config
    config = cli.configuration(kind, ["--config", str(path), "--data", "DIR"])
    if isinstance(config, reward.Config):
        assert config.name == path.stem
        assert [source.path for source in config.sources] == ["."] * len(config.sources)


def test_the_soup_is_made_of_the_recipes():
    ingredients = yaml.safe_load((RECIPES / "grounded-qa" / "soup.yaml").read_text())["ingredients"]
    outs = {
        yaml.safe_load(path.read_text())["out"]
        for path in (RECIPES / "grounded-qa").glob("*.yaml")
        if path.stem not in SOUPS
    }
    assert set(ingredients) <= outs
