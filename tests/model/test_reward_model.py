from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pico
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tureen.model.checkpoint import load
from tureen.model.manifest import ModelError
from tureen.model.reward_model import RewardModel, load_backbone

ROWS = [[2, 10, 11, 12, 3], [2, 30, 3], [2, 40, 41, 42, 43, 44, 45, 46, 3]]


@pytest.fixture(scope="module", params=["bert", "llama"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RewardModel:
    make = {"bert": pico.bert_reward, "llama": pico.llama_reward}[request.param]
    loaded = load(make(tmp_path_factory.mktemp("models") / "m")).model
    assert isinstance(loaded, RewardModel)
    return loaded


def test_shape_and_type(model: RewardModel, values_of: Callable[..., Tensor]):
    values = values_of(model, ROWS)
    assert values.shape == (3, 2, 1, 4)  # (B, N, G, H)
    assert values.dtype == torch.float32


def test_a_row_does_not_depend_on_its_neighbours(
    model: RewardModel, values_of: Callable[..., Tensor]
):
    crowd = values_of(model, ROWS)
    for i, row in enumerate(ROWS):
        torch.testing.assert_close(values_of(model, [row])[0], crowd[i], rtol=0, atol=1e-5)


def test_what_stands_in_the_padding_is_not_read(model: RewardModel):
    input_ids = torch.tensor([[2, 10, 11, 3, 0, 0]])
    attention_mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    span_weights = torch.tensor([[[0.25, 0.25, 0.25, 0.25, 0, 0]]])
    types = torch.zeros_like(input_ids)
    other = torch.tensor([[2, 10, 11, 3, 50, 51]])
    with torch.inference_mode():
        one = model(input_ids, attention_mask, types, span_weights)
        two = model(other, attention_mask, types, span_weights)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-6)


def test_a_unit_is_the_mean_over_its_tokens(model: RewardModel):
    input_ids = torch.tensor([ROWS[0]])
    ones = torch.ones_like(input_ids)
    each = torch.eye(5)[None]  # five units of one token
    pair = torch.tensor(
        [[[0, 0.5, 0.5, 0, 0], [0.0] * 5]]
    )  # tokens 1 and 2; a unit that is padding
    with torch.inference_mode():
        single = model(input_ids, ones, 0 * ones, each)
        pooled = model(input_ids, ones, 0 * ones, pair)
    torch.testing.assert_close(pooled[0, 0], single[0, 1:3].mean(dim=0), rtol=0, atol=1e-5)
    torch.testing.assert_close(pooled[0, 1], model.heads.bias.detach())  # nothing but the bias


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_heads_stay_fp32_on_a_small_backbone(
    reward_directory: Path, values_of: Callable[..., Tensor], dtype: torch.dtype
):
    model = load(reward_directory, dtype=dtype).model
    assert isinstance(model, RewardModel)
    assert {p.dtype for p in model.backbone.parameters()} == {dtype}
    assert {p.dtype for p in model.heads.parameters()} == {torch.float32}
    values = values_of(model, ROWS)
    assert values.dtype == torch.float32
    exact = values_of(load(reward_directory).model, ROWS)
    # eight bits of mantissa through two layers
    torch.testing.assert_close(values, exact, rtol=0, atol=0.2)


def test_autocast_does_not_reach_the_heads(reward_directory: Path):
    model = load(reward_directory).model
    assert isinstance(model, RewardModel)
    ids = torch.tensor([ROWS[0]])
    seen: list[torch.dtype] = []
    model.heads.register_forward_hook(lambda _, args, out: seen.extend((args[0].dtype, out.dtype)))
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        model(ids, torch.ones_like(ids), torch.zeros_like(ids), torch.full((1, 1, 5), 0.2))
    assert seen == [torch.float32, torch.float32]


def test_loading_a_trunk_is_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    """transformers would report a classifier's head and pooler, which a trunk has no use for."""
    directory = pico.bert_classifier(tmp_path / "c")
    capfd.readouterr()
    with caplog.at_level(logging.DEBUG):
        backbone = load_backbone(directory)
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if "LOAD REPORT" in record.message]
    assert not any("pooler" in name for name in backbone.state_dict())
    assert not backbone.training


def test_a_missing_tensor_is_not_made_up(tmp_path: Path):
    base = Path(pico.bert_base(tmp_path / "b").repo)
    tensors = load_file(base / "model.safetensors")
    del tensors["encoder.layer.0.output.dense.weight"]
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"missing \['encoder\.layer\.0\.output\.dense\.weight'\]"):
        load_backbone(base)


def test_a_damaged_file_is_refused(tmp_path: Path):
    base = Path(pico.bert_base(tmp_path / "b").repo)
    content = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_backbone(base)


def test_an_unknown_architecture_is_refused(tmp_path: Path):
    base = Path(pico.bert_base(tmp_path / "b").repo)
    config = {"model_type": "no-such-model", "auto_map": {"AutoConfig": "code.NoSuchConfig"}}
    (base / "config.json").write_text(json.dumps(config))
    (base / "code.py").write_text("raise AssertionError('remote code was run')")
    with pytest.raises(ModelError, match=r"config\.json cannot be used; .*no code of the model"):
        load_backbone(base)
    shutil.rmtree(base)
    with pytest.raises(ModelError):
        load_backbone(base)
