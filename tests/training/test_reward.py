"""A pico model through the whole of it: reward, soup, load, and the path that serves."""

from pathlib import Path

import feedback_files
import pico_training
import pytest
import torch
import two_processes

from tureen.contracts import Granularity, Sample
from tureen.model.checkpoint import load
from tureen.model.manifest import HeadSpec, read_manifest
from tureen.model.reward_model import RewardModel, load_backbone
from tureen.model.soup import make_soup
from tureen.text.encoding import TextEncoder
from tureen_training import reward, soup
from tureen_training.card import card
from tureen_training.data.items import encode, run, tensors
from tureen_training.data.records import Split
from tureen_training.data.sets import Source, feedback_examples
from tureen_training.evaluation.readings import readings_of
from tureen_training.evaluation.scorers import forward_of
from tureen_training.reference import REFERENCE_SAMPLES
from tureen_training.trunk import layers_of


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two ingredients, and one that began where the first ended."""
    root = pico_training.directory(tmp_path_factory.mktemp("training"))
    for seed, name in enumerate(("first", "second")):
        reward.main(pico_training.config(root, name, seed=seed))
    reward.main(pico_training.config(root, "warm", start=str(root / "first"), epochs=0))
    return root


@pytest.fixture(scope="module")
def stirred(made: Path) -> Path:
    """Their soup beside them."""
    soup.main(
        soup.Config(
            ingredients=(str(made / "first"), str(made / "second")),
            out=str(made / "soup"),
            name="pico-soup",
            data=str(made / "data"),
            commands="tureen-train soup",
            runs=str(made / "runs"),
            cache=str(made / "cache"),
            threads=1,
        )
    )
    return made / "soup"


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
    records = pico_training.events(made, "first")
    names = ["data", "frozen layers", "probe", *["step"] * 11, "epoch"]
    assert [record["event"] for record in records] == names
    assert records[0]["train"] == {"qa_feedback": 30, "contrast": 4}
    heads = {"preference", "factuality", "relevance", "completeness"}
    assert set(records[3]["loss"]) == heads
    assert [record["step"] for record in records[3:]] == [*range(1, 12), 11]
    assert {"preference_accuracy", "relevance_auroc"} <= set(records[-1]["validation"])
    assert (made / "first.run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not (made / "first.run" / "state").exists()


@pytest.mark.slow
def test_the_ingredient_says_how_it_came_to_be(made: Path):
    manifest = read_manifest(made / "warm")
    assert manifest.lineage["start"] == str(made / "first")
    assert "qa_feedback (train part of tureen-split-2)" in manifest.lineage["data"]
    assert manifest.lineage["trained_layers"] == "1"
    assert "QA-Feedback (Wu et al. 2023): Apache-2.0" in manifest.data_licences


@pytest.mark.slow
def test_the_soup_is_calibrated_and_measured(stirred: Path):
    manifest = read_manifest(stirred)
    assert manifest.soup == "uniform:2"
    assert manifest.calibration_set == soup.CALIBRATION_SET
    assert all(head.calibration.std != 1.0 for head in manifest.heads)
    assert {"preference_accuracy", "relevance_auroc"} <= set(manifest.metrics["figures"])
    assert (stirred / "README.md").read_text() == card(manifest)
    assert [entry.sample for entry in manifest.reference] == list(REFERENCE_SAMPLES)


@pytest.mark.slow
def test_a_batch_gives_what_one_window_at_a_time_gives(stirred: Path, made: Path):
    """What training computes in batches is what one sample alone gives through the public objects."""
    loaded = load(stirred)
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


def test_a_warm_start_goes_on_from_the_checkpoint(made: Path):
    """No epochs: what comes out is what went in, layers and heads."""
    first, warm = load(made / "first").model.state_dict(), load(made / "warm").model.state_dict()
    assert first.keys() == warm.keys()
    for name, tensor in first.items():
        assert torch.equal(warm[name], tensor), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"trained_layers": 2, "train_windows": "one", "context_words": 0},
        {"trained_layers": 2, "lora_rank": 2, "dropout": 0.1},
        {"trained_layers": 0},
    ],
    ids=["everything", "low rank", "heads alone"],
)
def test_any_part_of_the_trunk_can_train(made: Path, tmp_path: Path, changes):
    """The embeddings stay; of the layers those move that are to; what is saved is loaded as a plain model."""
    out = tmp_path / "out"
    reward.main(pico_training.config(made, "other", out=str(out), **changes))
    before = load_backbone(made / "base").state_dict()
    after = load(out).model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[f"backbone.{name}"])}
    depths = {name.split(".")[2] for name in moved}
    assert all(name.startswith("encoder.layer.") for name in moved)
    assert depths == {str(2 - n - 1) for n in range(changes["trained_layers"])}
    if "lora_rank" in changes:  # a matrix moves by no more than its rank
        delta = after["backbone.encoder.layer.0.intermediate.dense.weight"]
        delta = delta - before["encoder.layer.0.intermediate.dense.weight"]
        sizes = torch.linalg.svdvals(delta)
        assert (sizes > 0.02 * sizes[0]).sum() <= 2
        assert all(name.endswith("weight") and "LayerNorm" not in name for name in moved)


TONE = (HeadSpec(name="tone", granularity=Granularity.RESPONSE, weight=1.0),)
OWN = [
    {"rankings": [{"ranks": [1, 2, 2], "rater": "ann"}, {"ranks": [2, 1, 3], "rater": "bob"}]},
    {"pairs": [{"chosen": 2, "rejected": 0, "margin": 0.5, "rater": "bob"}]},
    {"ratings": [{"response": 0, "value": 5}, {"response": 2, "value": 1.5}]},
    {"ratings": [{"response": 1, "value": 2, "head": "factuality"}]},
    {"spans": {"factuality": [[[0, 3]], None, []], "relevance": [[], [[0, 3]], None]}},
    {"pairs": [{"chosen": 0, "rejected": 1, "kind": "coverage"}]},
]


@pytest.mark.slow
def test_feedback_of_several_kinds_teaches_one_model(made: Path, tmp_path: Path):
    """Rankings, pairs, marks, spans and corrections in one run, with raters of unlike reliability."""
    responses = ["It burned down in 1902.", "Anna Berg built it.", "Gulls nest on the cliffs."]
    records = [
        {"id": f"o{i}", "prompt": "What of the lighthouse?", "responses": responses, **kind}
        for i, kind in enumerate(OWN)
    ]
    feedback_files.write(tmp_path / "feedback.jsonl", records)
    own = Source(name="own", path=str(tmp_path), part="all", licence="ours: CC0")
    config = pico_training.config(
        made,
        "several",
        out=str(tmp_path / "several"),
        sources=(own, Source(name="qa_feedback", share=0.5, heads=("completeness",))),
        prompts_per_step=2,
        rater_reliability=True,
    )
    reward.main(config)
    *_, epoch, raters = pico_training.events(tmp_path, "several")
    assert set(epoch["validation"]) == {"completeness_accuracy", "completion_accuracy"}
    assert set(raters["reliability"]) == {"ann", "bob"}
    assert all(0.5 <= eta < 1 for eta in raters["reliability"].values())
    assert read_manifest(tmp_path / "several").data_licences[0] == "ours: CC0"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"emphasis": {"factualty": 1.0}}, "emphasis names factualty; heads: preference"),
        ({"sources": (Source(name="contrast", heads=("tone",)),)}, "source contrast names tone"),
        ({"sources": (Source(name="contrast"), Source(name="contrast"))}, "each once"),
        ({"dropout": 1.0}, r"dropout is 1.0; it must be in \[0, 1\)"),
        ({"label_smoothing": 0.5}, "label_smoothing is 0.5; it must be in"),
        ({"label_smoothing": 0.1, "rater_reliability": True}, "exclude each other"),
        ({"lora_rank": 2, "trained_layers": 0}, "lora_rank needs layers to train"),
        ({"epochs": -1}, "epochs is -1; it must be 0 or more"),
        ({"prompts_per_step": 0}, "prompts_per_step is 0; it must be 1 or more"),
    ],
)
def test_a_configuration_that_cannot_be(changes, problem):
    with pytest.raises(ValueError, match=problem):
        reward.Config(data="d", out="o", name="n", **changes)


@pytest.mark.slow
def test_data_and_starts_that_do_not_fit(made: Path, tmp_path: Path):
    def run(**changes) -> None:
        reward.main(pico_training.config(made, "none", out=str(tmp_path / "none"), **changes))

    contrast = Source(name="contrast", heads=("factuality",))
    with pytest.raises(ValueError, match="no source teaches the head preference"):
        run(sources=(contrast,))
    with pytest.raises(ValueError, match="source contrast has nothing to teach to tone"):
        run(sources=(Source(name="contrast"),), heads=TONE)
    with pytest.raises(ValueError, match="has the heads preference, factuality"):
        run(start=str(made / "first"), heads=reward.QA_HEADS[:2])
    make_soup([made / "first", made / "second"], None, tmp_path / "soup", "uniform")
    with pytest.raises(ValueError, match="is no single checkpoint"):
        run(start=str(tmp_path / "soup"))
    with pytest.raises(ValueError, match=r"trained_layers must be in 0\.\.2, got 3"):
        run(trained_layers=3)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(made: Path):
    """A step is so many prompts over all processes; without dropout the losses are the same but for rounding."""
    source = (
        "import sys\n"
        "from pathlib import Path\n"
        "import pico_training\n"
        "from tureen_training import reward\n"
        "reward.main(pico_training.config(Path(sys.argv[1]), 'two', seed=0))\n"
    )
    two_processes.run(made / "two.py", source, made)
    alone, together = (pico_training.events(made, name) for name in ("first", "two"))
    assert [record["event"] for record in together] == [record["event"] for record in alone]
    for one, two in zip(alone, together, strict=True):
        if one["event"] == "step":
            assert two["loss"] == pytest.approx(one["loss"], abs=2e-3)
