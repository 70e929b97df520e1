"""Which part of the trunk trains, and that sparing the frozen part changes nothing."""

from pathlib import Path

import pico
import pico_tokenizers
import pytest
import torch

from tureen.contracts import Sample
from tureen.model.heads import RewardHeads
from tureen.model.reward_model import RewardModel, load_backbone
from tureen.text.encoding import TextEncoder, Window
from tureen_training.data.items import tensors
from tureen_training.trunk import (
    ActivationCache,
    dropping_out,
    freeze_below,
    frozen_digest,
    layers_of,
    low_rank,
    pooled_states,
    replaying,
)

SAMPLE = Sample(
    prompt="what is it?",
    context=("the cat and the dog like the river.",),
    responses=("a painting by rembrandt, the night watch.", "no"),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("trunk")
    pico.bert_base(directory)
    return directory


@pytest.fixture
def model(base: Path) -> RewardModel:
    generator = torch.Generator().manual_seed(0)
    return RewardModel(
        load_backbone(base), RewardHeads.initialise(pico.HIDDEN, 4, generator=generator)
    )


@pytest.fixture(scope="module")
def windows() -> list[Window]:
    encoder = TextEncoder(pico_tokenizers.bert_like(), pico.PAIR)
    encoded = encoder.encode(SAMPLE, {head.granularity for head in pico.HEADS})
    return [window for response in encoded for window in response.windows]


def values(model: RewardModel, windows: list[Window]) -> torch.Tensor:
    with torch.no_grad():
        return model(**tensors(windows, 0))


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_only_the_top_layers_and_the_heads_keep_a_gradient(model: RewardModel, layers: int):
    freeze_below(model, layers)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    tops = tuple(f"backbone.encoder.layer.{n}." for n in range(2 - layers, 2))
    expected = {n for n, _ in model.named_parameters() if n.startswith(("heads.", *tops))}
    assert trained == expected


def test_there_are_no_more_layers_than_there_are(model: RewardModel):
    with pytest.raises(ValueError, match=r"trained_layers must be in 0\.\.2, got 3"):
        freeze_below(model, 3)


def test_the_digest_names_what_is_frozen_and_nothing_else(model: RewardModel):
    freeze_below(model, 1)
    digest = frozen_digest(model)
    with torch.no_grad():
        next(layers_of(model.backbone)[1].parameters()).add_(1.0)
    assert frozen_digest(model) == digest
    with torch.no_grad():
        next(layers_of(model.backbone)[0].parameters()).add_(1.0)
    assert frozen_digest(model) != digest


@pytest.mark.parametrize("frozen", [1, 2])
def test_replaying_is_the_forward_pass(
    model: RewardModel, windows: list[Window], tmp_path: Path, frozen: int
):
    """Up to the fp16 in which activations are kept: values are sums of 32 products of about 1."""
    freeze_below(model, 2 - frozen)
    expected = values(model, windows)
    cache = ActivationCache(tmp_path, frozen_digest(model), windows, frozen)
    cache.fill(model, 0, 4096)
    with replaying(model, cache) as replay:
        replay.hidden = cache.hidden(windows)
        torch.testing.assert_close(values(model, windows), expected, rtol=0, atol=5e-3)
    assert torch.equal(values(model, windows), expected)  # the layers are back


def test_dropout_is_of_the_trained_layers_and_of_training(
    model: RewardModel, windows: list[Window]
):
    expected = values(model, windows)
    with dropping_out(model, 1, 0.5):
        assert {m.training for m in layers_of(model.backbone)[1].modules()} == {True}
        assert {m.training for m in layers_of(model.backbone)[0].modules()} == {False}
        assert not torch.equal(values(model, windows), expected)
    assert torch.equal(values(model, windows), expected)
    with dropping_out(model, 2, 0.0):
        assert torch.equal(values(model, windows), expected)


def test_pooled_states_are_what_the_heads_see(model: RewardModel, windows: list[Window]):
    expected = values(model, windows)  # (B, N, 1, H)
    with pooled_states(model):
        states = values(model, windows)  # (B, N, 1, D)
    assert states.shape[-1] == pico.HIDDEN
    torch.testing.assert_close(model.heads(states[:, :, 0]), expected)
    assert torch.equal(values(model, windows), expected)


def test_low_rank_moves_are_merged(model: RewardModel, windows: list[Window]):
    """W + 2 B A with A = 1 and B = ⅛ in one row of rank 1 adds ¼ to every weight of the top layer alone."""
    freeze_below(model, 1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = values(model, windows)
    with low_rank(model, 1, 1):
        assert torch.equal(values(model, windows), expected)  # B begins at 0
        for name, parameter in model.backbone.named_parameters():
            assert parameter.requires_grad == ("lora_" in name)
            if "lora_" in name:
                torch.nn.init.constant_(parameter, 0.125 if "lora_B" in name else 1.0)
        moved = values(model, windows)
    after = model.state_dict()
    assert after.keys() == before.keys()
    for name, tensor in after.items():
        matrix = "layer.1." in name and tensor.dim() == 2
        torch.testing.assert_close(tensor - before[name], torch.full_like(tensor, 0.25 * matrix))
    torch.testing.assert_close(values(model, windows), moved, rtol=1e-4, atol=1e-4)
