"""Prompts that several rows share, against the plain pass over whole rows."""

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
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    Qwen3Config,
    Qwen3Model,
)

from tureen.model.checkpoint import load
from tureen.model.prefix_cache import PrefixCache
from tureen.model.shared_prefixes import SharedPrefixes, can_share, plan
from tureen.text.batch import Batch

PROMPT = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
OTHER = [20, 21, 22, 23, 24, 25, 26, 27, 28]
SIZE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
FEW_KEYS: dict[str, Any] = SIZE | {"num_key_value_heads": 2}


def batch_of(*rows: tuple[list[int], list[int]]) -> Batch:
    """Rows of a prefix and a response; a unit over the whole response and one at its last token."""
    width = max(len(prefix) + len(response) for prefix, response in rows)
    ids, mask = np.zeros((2, len(rows), width), np.int64)
    weights = np.zeros((len(rows), 2, width), np.float32)
    for place, (prefix, response) in enumerate(rows):
        end = len(prefix) + len(response)
        ids[place, :end] = prefix + response
        mask[place, :end] = 1
        weights[place, 0, len(prefix) : end] = 1 / len(response)
        weights[place, 1, end - 1] = 1
    lengths = np.array([len(prefix) for prefix, _ in rows])
    return Batch(ids, mask, np.zeros_like(ids), weights, lengths)


def values(model: nn.Module, batch: Batch, shared: SharedPrefixes | None = None) -> torch.Tensor:
    rows, prefixes = batch, None
    if shared is not None:
        split = shared.split(batch)
        assert split is not None
        rows, prefixes = split
    tensors = {name: torch.from_numpy(array) for name, array in rows.arrays().items()}
    with torch.inference_mode():
        return model(**tensors, prefixes=prefixes)


class Counted:
    """How many rows and tokens a trunk was called with, padding included."""

    def __init__(self, trunk: nn.Module) -> None:
        self.calls: list[tuple[int, ...]] = []
        trunk.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _module, _args, kwargs) -> None:
        self.calls.append(tuple(kwargs["input_ids"].shape))


FOUR = batch_of((PROMPT, [1, 2, 3]), (OTHER, [4, 3]), (PROMPT, [2, 2, 1, 4]), (PROMPT, [3]))


def test_a_batch_is_taken_apart_behind_its_prefixes():
    taken = plan(FOUR)
    assert [np.frombuffer(key, np.int64).tolist() for key in taken.keys] == [PROMPT, OTHER]
    assert taken.group.tolist() == [0, 1, 0, 0]
    assert taken.lengths.tolist() == [12, 9, 12, 12]
    assert taken.rest.input_ids.tolist() == [[1, 2, 3, 0], [4, 3, 0, 0], [2, 2, 1, 4], [3, 0, 0, 0]]
    assert taken.rest.attention_mask.sum(axis=1).tolist() == [3, 2, 4, 1]
    third = np.float32(1 / 3)
    assert taken.rest.span_weights[0].tolist() == [[third, third, third, 0], [0, 0, 1, 0]]
    assert taken.rest.span_weights[3].tolist() == [[1, 0, 0, 0], [1, 0, 0, 0]]


@pytest.fixture(scope="module", params=["reward", "classifier"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    make = {"reward": pico.llama_reward, "classifier": lambda d: pico.llama_classifier(d, 2)}
    return load(make[request.param](tmp_path_factory.mktemp("models") / "m")).model


def test_values_are_those_of_the_plain_pass_and_each_prompt_runs_once(model):
    assert can_share(model.trunk)
    shared = SharedPrefixes(model.trunk, PrefixCache(0))
    expected = values(model, FOUR)
    counted = Counted(model.trunk)
    torch.testing.assert_close(values(model, FOUR, shared), expected, rtol=0, atol=1e-5)
    assert counted.calls == [(2, 12), (4, 4)]  # 40 tokens, and 64 in the plain pass
    assert shared._cache.bytes == 0


def test_a_prompt_that_comes_again_costs_nothing(model):
    shared = SharedPrefixes(model.trunk, PrefixCache(2**20))
    first = batch_of((PROMPT, [1, 2]), (PROMPT, [3]))
    later = batch_of((PROMPT, [4, 4, 1]), (PROMPT, [2]))
    values(model, first, shared)
    # two of keys and values, 2 layers, 32 wide on the pico llama's key heads, fp32
    assert shared._cache.bytes == 2 * 2 * 12 * key_width(model.trunk) * 4
    counted = Counted(model.trunk)
    found = values(model, later, shared)
    assert counted.calls == [(2, 3)]
    torch.testing.assert_close(found, values(model, later), rtol=0, atol=1e-5)


def key_width(trunk: Any) -> int:
    return trunk.layers[0].self_attn.k_proj.out_features


def test_a_lone_row_runs_plainly_until_its_prompt_comes_again(model):
    shared = SharedPrefixes(model.trunk, PrefixCache(2**20))
    lone = batch_of((PROMPT, [1, 2]))
    assert shared.split(lone) is None  # 14 tokens either way
    assert shared.split(lone) is not None  # pays for the third time
    counted = Counted(model.trunk)
    assert shared.split(batch_of((PROMPT, [9]))) is not None
    assert counted.calls == []


def test_nothing_is_remembered_where_nothing_is_kept(model):
    shared = SharedPrefixes(model.trunk, PrefixCache(0))
    lone = batch_of((PROMPT, [1, 2]))
    assert [shared.split(lone), shared.split(lone)] == [None, None]


def test_what_is_kept_is_bounded_and_the_oldest_goes(model):
    size = 2 * 2 * 12 * key_width(model.trunk) * 4
    shared = SharedPrefixes(model.trunk, PrefixCache(2 * size))
    prompts = [[token, *PROMPT[1:]] for token in (30, 31, 32)]
    pairs = [batch_of((prompt, [1]), (prompt, [2])) for prompt in prompts]
    for pair in pairs[:2]:
        values(model, pair, shared)
    values(model, pairs[0], shared)  # used again: the second is the oldest now
    values(model, pairs[2], shared)
    assert shared._cache.bytes == 2 * size
    counted = Counted(model.trunk)
    for pair in (pairs[0], pairs[2], pairs[1]):
        values(model, pair, shared)
    assert counted.calls == [(2, 1), (2, 1), (1, 12), (2, 1)]


def test_rows_that_have_nothing_before_the_response_run_plainly(model):
    shared = SharedPrefixes(model.trunk, PrefixCache(2**20))
    assert shared.split(batch_of((PROMPT, [1]), (PROMPT, [2]), ([], [3]))) is None


def spread(trunk: Any) -> Any:
    """Weights so large that every token matters to those behind it."""
    for parameter in trunk.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(8)
    return trunk.eval()


@pytest.mark.parametrize(
    ("make", "able"),
    [
        (lambda: LlamaModel(LlamaConfig(**FEW_KEYS)), True),
        (lambda: Qwen3Model(Qwen3Config(**FEW_KEYS, head_dim=8)), True),
        (lambda: GPT2Model(GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4)), True),
        (lambda: BertModel(BertConfig(**SIZE)), False),
        (lambda: MistralModel(MistralConfig(**FEW_KEYS, sliding_window=4)), False),
    ],
    ids=["llama", "qwen3", "learned positions", "encoder", "sliding window"],
)
def test_which_trunks_can_share(make, able):
    torch.manual_seed(0)
    assert can_share(spread(make())) is able


def test_a_trunk_whose_tokens_hardly_look_back_is_not_trusted():
    """Where the past makes no difference, the trial could not tell right from wrong."""
    torch.manual_seed(0)
    trunk = spread(LlamaModel(LlamaConfig(**FEW_KEYS)))
    for layer in trunk.layers:
        layer.self_attn.o_proj.weight.data.zero_()
    assert not can_share(trunk)


def test_bfloat16_shares_too(tmp_path: Path):
    model = load(pico.llama_reward(tmp_path / "m"), dtype=torch.bfloat16).model
    assert model.trunk is not None
    assert can_share(model.trunk)
