"""A pico model through the whole of it: reward, soup, load, and the path that serves."""

import json
from dataclasses import replace
from pathlib import Path

import feedback_files
import pico
import pytest
import torch

from tureen.contracts import Sample
from tureen.model.checkpoint import load
from tureen.model.manifest import read_manifest
from tureen.model.reward_model import RewardModel
from tureen.text.encoding import TextEncoder
from tureen_training import reward, soup
from tureen_training.card import card
from tureen_training.data.items import encode, run, tensors
from tureen_training.data.records import Split
from tureen_training.data.sets import feedback_examples
from tureen_training.evaluation.readings import readings_of
from tureen_training.evaluation.scorers import forward_of
from tureen_training.reference import REFERENCE_SAMPLES
from tureen_training.trunk import layers_of


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two ingredients and their soup."""
    root = tmp_path_factory.mktemp("training")
    data = feedback_files.directory(root / "data")
    with pytest.MonkeyPatch.context() as patch:  # room for a row of characters
        patch.setattr(pico, "MAX_INPUT_TOKENS", reward.QA_TEXT.max_input_tokens)
        base = pico.bert_base(root / "base")
    common = reward.Config(
        data=str(data),
        out="",
        name="",
        base=base,
        trained_layers=1,
        epochs=1,
        probe_steps=3,
        cache=str(root / "cache"),
        threads=1,
    )
    for seed, name in enumerate(("first", "second")):
        reward.main(replace(common, name=name, out=str(root / name), seed=seed, learning_rate=1e-2))
    warm = replace(common, name="warm", out=str(root / "warm"), start=str(root / "first"))
    reward.main(replace(warm, epochs=0))
    soup.main(
        soup.Config(
            ingredients=(str(root / "first"), str(root / "second")),
            out=str(root / "soup"),
            name="pico-soup",
            data=str(data),
            commands="tureen-train soup",
            threads=1,
        )
    )
    return root


@pytest.mark.slow
def test_only_the_top_layers_and_the_heads_moved(made: Path):
    frozen, trained = layers(made / "first")
    frozen_again, trained_again = layers(made / "second")
    for a, b in zip(frozen.parameters(), frozen_again.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    pairs = zip(trained.parameters(), trained_again.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


def layers(directory: Path) -> torch.nn.ModuleList:
    model = load(directory).model
    assert isinstance(model, RewardModel)
    return layers_of(model.backbone)


@pytest.mark.slow
def test_the_log_tells_the_run(made: Path):
    lines = [json.loads(line) for line in (made / "first.metrics.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["data", "frozen layers", "probe", "epoch"]
    assert set(lines[-1]["loss"]) == {"preference", "factuality", "relevance", "completeness"}


@pytest.mark.slow
def test_the_soup_is_calibrated_and_measured(made: Path):
    manifest = read_manifest(made / "soup")
    assert manifest.soup == "uniform:2"
    assert manifest.calibration_set == soup.CALIBRATION_SET
    assert all(head.calibration.std != 1.0 for head in manifest.heads)
    assert {"preference_accuracy", "relevance_auroc"} <= set(manifest.metrics["figures"])
    assert (made / "soup" / "README.md").read_text() == card(manifest)
    assert [entry.sample for entry in manifest.reference] == list(REFERENCE_SAMPLES)


@pytest.mark.slow
def test_training_score_is_the_served_score(made: Path):
    """What training computes in batches is what one sample alone gives through the public objects."""
    loaded = load(made / "soup")
    manifest = loaded.manifest
    encoder = TextEncoder.from_directory(loaded.tokenizer_directory, manifest.text)
    examples = list(feedback_examples(made / "data", Split.TEST))
    items = [encode(example, encoder, manifest.heads) for example in examples]
    values = run(items, manifest.heads, forward_of(loaded.model, encoder), 4096)
    batched = readings_of(items, values, manifest.heads)
    for example, readings in zip(examples, batched, strict=True):
        expected = [reading.reward for reading in readings]
        assert alone(loaded, encoder, example.sample()) == pytest.approx(expected, abs=1e-5)


@torch.inference_mode()
def alone(loaded, encoder: TextEncoder, sample: Sample) -> list[float]:
    """DESIGN section 4 written out, one window at a time."""
    scores = []
    heads = loaded.manifest.heads
    for encoded in encoder.encode(sample, {head.granularity for head in heads}):
        windows = [
            loaded.model(**tensors([window], pad_id=0))[0, :, 0] for window in encoded.windows
        ]
        reward = 0.0
        for h, head in enumerate(heads):
            units = [n for n, u in enumerate(encoded.units) if u.granularity == head.granularity]
            values = torch.stack([window[units, h] for window in windows])  # (W, N_h)
            joined = values.amax(0) if head.combine == "max" else values.mean(0)
            calibrated = (joined.mean().item() - head.calibration.mean) / head.calibration.std
            reward += head.weight * calibrated
        scores.append(reward)
    return scores


def test_the_learning_rate_rises_and_falls():
    factors = [reward.linear_decay(step, 10, 0.2) for step in range(10)]
    assert factors[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert factors[-1] == pytest.approx(1 / 8)
    assert reward.linear_decay(0, 1, 0.1) == 1.0


def test_a_warm_start_goes_on_from_the_checkpoint(made: Path):
    """No epochs: what comes out is what went in, layers and heads."""
    first, warm = load(made / "first").model.state_dict(), load(made / "warm").model.state_dict()
    assert first.keys() == warm.keys()
    for name, tensor in first.items():
        assert torch.equal(warm[name], tensor), name
