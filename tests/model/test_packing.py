"""Rows without padding, against the padded pass over the same rows."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pico
import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    DebertaV2Config,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    ModernBertConfig,
    ModernBertModel,
    Qwen2Config,
    Qwen2Model,
    RobertaConfig,
    RobertaModel,
)

from tureen.model import packing
from tureen.model.checkpoint import load
from tureen.model.packing import Packer, hidden_states, packer_of
from tureen.text.batch import Batch

SIZE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "pad_token_id": 0,
}
SECOND_IS_PADDING: dict[str, Any] = SIZE | {"pad_token_id": 1}
FEW_KEYS: dict[str, Any] = SIZE | {"num_key_value_heads": 2}
LOCAL: dict[str, Any] = {"local_attention": 4, "global_attn_every_n_layers": 2}
LENGTHS = (3, 11, 1, 7)


def batch_of(lengths: tuple[int, ...], types: int = 1, vocabulary: int = 60) -> Batch:
    """Rows of random tokens; a unit over the latter half of a row and one at its last token."""
    draw = np.random.default_rng(5)
    width = max(lengths)
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int64)
    weights = np.zeros((len(lengths), 2, width), np.float32)
    for row, length in enumerate(lengths):
        weights[row, 0, length // 2 : length] = 1 / (length - length // 2)
        weights[row, 1, length - 1] = 1
    return Batch(
        input_ids=draw.integers(1, vocabulary, mask.shape) * mask,
        attention_mask=mask,
        token_type_ids=draw.integers(0, types, mask.shape) * mask,
        span_weights=weights,
        prefix_lengths=np.zeros(len(lengths), np.int64),
    )


def arguments(batch: Batch, packer: Packer | None) -> dict[str, Any]:
    """Of `RewardModel.forward`."""
    given: dict[str, Any] = {it: torch.from_numpy(array) for it, array in batch.arrays().items()}
    if packer is not None:
        mask = batch.attention_mask
        arrays = {name: torch.from_numpy(it) for name, it in packer.arrays(mask).items()}
        given["packing"] = packer.packing(mask, arrays)
    return given


@torch.inference_mode()
def values(model: nn.Module, batch: Batch, packer: Packer | None = None) -> torch.Tensor:
    return model(**arguments(batch, packer))


@torch.inference_mode()
def hidden(trunk: Any, batch: Batch, packer: Packer | None = None) -> torch.Tensor:
    """(S, D) of the tokens alone."""
    given = arguments(batch, packer)
    mask = given["attention_mask"]
    found = hidden_states(trunk, given["input_ids"], mask, packing=given.get("packing"))
    return found[mask == 1]


def test_where_the_tokens_stand():
    mask = np.array([[1, 1, 0], [1, 1, 1], [1, 0, 0]])
    arrays = Packer(first_position=2).arrays(mask)
    assert arrays["index"].tolist() == [0, 1, 3, 4, 5, 6]
    assert arrays["positions"].tolist() == [2, 3, 2, 3, 4, 2]
    assert arrays["starts"].tolist() == [0, 2, 5, 6]
    assert arrays["starts"].dtype == np.int32  # what flash attention takes
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    packed = Packer(2).packing(mask, tensors)
    assert (packed.lengths, packed.longest) == ((2, 3, 1), 3)


@pytest.fixture(scope="module", params=["encoder", "decoder", "decoder of a third party"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    make = {
        "encoder": pico.bert_reward,
        "decoder": pico.llama_reward,
        "decoder of a third party": lambda directory: pico.llama_classifier(directory, 2),
    }
    return load(make[request.param](tmp_path_factory.mktemp("models") / "m")).model


class Counted:
    """The shapes of the ids that a trunk was called with."""

    def __init__(self, trunk: nn.Module) -> None:
        self.calls: list[tuple[int, ...]] = []
        self.hook = trunk.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _module, _args, kwargs) -> None:
        self.calls.append(tuple(kwargs["input_ids"].shape))


def test_values_are_those_of_the_padded_pass_and_the_trunk_sees_no_padding(model):
    batch = batch_of(LENGTHS, types=2, vocabulary=30)
    expected = values(model, batch)
    packer = packer_of(model.trunk)
    assert packer == Packer(first_position=0)
    counted = Counted(model.trunk)
    torch.testing.assert_close(values(model, batch, packer), expected, rtol=0, atol=1e-5)
    assert counted.calls == [(1, 3 + 11 + 1 + 7)]
    counted.hook.remove()
    # A pass that is not packed runs as before.
    torch.testing.assert_close(values(model, batch), expected, rtol=0, atol=1e-6)


def test_a_value_does_not_depend_on_the_neighbours(model):
    packer = packer_of(model.trunk)
    batch = batch_of(LENGTHS, vocabulary=30)
    together = values(model, batch, packer)
    for row, length in enumerate(LENGTHS):
        alone = Batch(
            input_ids=batch.input_ids[row : row + 1, :length],
            attention_mask=batch.attention_mask[row : row + 1, :length],
            token_type_ids=batch.token_type_ids[row : row + 1, :length],
            span_weights=batch.span_weights[row : row + 1, :, :length],
            prefix_lengths=batch.prefix_lengths[row : row + 1],
        )
        torch.testing.assert_close(
            values(model, alone, packer)[0], together[row], rtol=0, atol=1e-5
        )


def spread(trunk: Any) -> Any:
    """Weights so large that every token matters to its neighbours."""
    for parameter in trunk.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(8)
    return trunk.eval()


ABLE = {
    "bert": lambda: BertModel(BertConfig(**SIZE)),
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(vocab_size=64, dim=32, n_layers=2, n_heads=4, hidden_dim=64)
    ),
    "roberta": lambda: RobertaModel(RobertaConfig(**SECOND_IS_PADDING)),
    "modernbert": lambda: ModernBertModel(ModernBertConfig(**SIZE, **LOCAL)),
    "llama": lambda: LlamaModel(LlamaConfig(**FEW_KEYS)),
    "qwen2": lambda: Qwen2Model(Qwen2Config(**FEW_KEYS)),
    "mistral": lambda: MistralModel(MistralConfig(**FEW_KEYS, sliding_window=4)),
    "gpt2": lambda: GPT2Model(GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4)),
}


@pytest.mark.parametrize("name", ABLE)
def test_architectures_that_run_packed(name):
    torch.manual_seed(0)
    trunk = spread(ABLE[name]())
    batch = batch_of(LENGTHS)
    if name == "roberta":  # no token is the padding one
        batch.input_ids[batch.attention_mask == 1] += 1
        batch.input_ids[batch.attention_mask == 0] = 1
    expected = hidden(trunk, batch)
    packer = packer_of(trunk)
    assert packer == Packer(2 if name == "roberta" else 0)
    torch.testing.assert_close(hidden(trunk, batch, packer), expected, rtol=1e-4, atol=1e-4)


class Deaf(GPT2Model):
    """Counts positions its own way."""

    def forward(self, position_ids=None, **kwargs):  # pyright: ignore
        return super().forward(**kwargs)


def without_output(trunk: Any) -> Any:
    """Where neighbours make no difference, the trial could not tell right from wrong."""
    for layer in trunk.layers:
        layer.self_attn.o_proj.weight.data.zero_()
    return trunk


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: DebertaV2Model(DebertaV2Config(**SIZE, relative_attention=True)), "stand in"),
        (lambda: Deaf(GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4)), "other values"),
        (lambda: without_output(LlamaModel(LlamaConfig(**FEW_KEYS))), "hardly looks"),
    ],
    ids=["own attention", "positions ignored", "no attention"],
)
def test_architectures_that_run_padded(make, reason, caplog):
    torch.manual_seed(0)
    trunk = spread(make())
    before = trunk.config._attn_implementation
    with caplog.at_level("INFO", logger="tureen"):
        assert packer_of(trunk) is None
    assert reason in caplog.text
    assert trunk.config._attn_implementation == before


@pytest.mark.parametrize(
    ("told", "reason"),
    # A window longer than the trial's rows changes none of its values.
    [({"sliding_window": None}, "local attention"), ({"softcap": 30.0}, "softcap")],
)
def test_attention_that_the_kernel_does_not_do_runs_padded(monkeypatch, caplog, told, reason):
    torch.manual_seed(0)
    trunk = spread(MistralModel(MistralConfig(**FEW_KEYS, sliding_window=32)))
    attend = packing._attention
    monkeypatch.setattr(packing, "_attention", lambda *args, **kw: attend(*args, **kw | told))
    with caplog.at_level("INFO", logger="tureen"):
        assert packer_of(trunk) is None
    assert reason in caplog.text


def test_flash_attention_is_asked_for_the_same_rows(monkeypatch):
    """Its arguments, by a stand-in that computes softmax(q·kᵀ·scale)·v by hand; it runs on CUDA alone."""
    asked: list[dict[str, Any]] = []

    def by_hand(query, key, value, starts, starts_k, longest, longest_k, *, scale, **options):
        asked.append(options | {"longest": (longest, longest_k)})
        assert starts is starts_k
        repeated = query.shape[1] // key.shape[1]
        key, value = (it.repeat_interleave(repeated, dim=1) for it in (key, value))
        behind, ahead = options["window_size"]
        found = torch.empty_like(query)
        for start, end in itertools.pairwise(starts.tolist()):
            for place in range(start, end):
                first = start if behind < 0 else max(start, place - behind)
                last = end if ahead < 0 else min(end, place + ahead + 1)
                logits = torch.einsum("ad,tad->at", query[place], key[first:last]) * scale
                weights = logits.softmax(dim=1)
                found[place] = torch.einsum("at,tad->ad", weights, value[first:last])
        return found

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", by_hand)
    monkeypatch.setattr(packing, "_one_by_one", packing._flash)
    torch.manual_seed(0)
    for name, window in (("bert", (-1, -1)), ("llama", (-1, 0)), ("mistral", (3, 0))):
        trunk = spread(ABLE[name]())
        expected = hidden(trunk, batch_of(LENGTHS))
        packer = packer_of(trunk)
        found = hidden(trunk, batch_of(LENGTHS), packer)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        assert asked[-1] == {
            "longest": (11, 11),
            "window_size": window,
            "enable_gqa": name != "bert",
            "num_splits": 1,
        }


def test_bfloat16_packs_too(tmp_path: Path):
    model = load(pico.llama_reward(tmp_path / "m"), dtype=torch.bfloat16).model
    assert model.trunk is not None
    assert packer_of(model.trunk) is not None
