"""What a GPU does for us, against what it can do. Ready to run where there is one:

    make bench ARGS='--only gpu'

matrix products   the rate of large bf16 products, measured: the most any model can get here
decoder           8B-class with random weights, samples of 1,024 tokens, none padded: its share of that rate,
                  counting 2 FLOP a token for each weight of a matrix product and nothing else
                  (attention's own products are not credited)
shared prefix     K = 8 responses of 128 tokens to a prompt of 512, computed once and computed K times; the
                  limit is K (P + R) / (P + K R) = 3.33
packing           rows of 1/16 to all of 1,024 tokens, padded and without padding, in FLOP of their tokens; the
                  limit is rows times the longest over the tokens, 1.88
default model     served over HTTP against perfect batches in this process, both on the GPU; and those
                  batches one at a time against as many at once as the server runs, whose copies and
                  calls overlap with computing

Where there is no CUDA device every figure is null and the card says so.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from bench import callers, ceiling
from bench.load import paired_ratio, run_closed, steady_rate
from bench.plan import Part, Plan, described
from bench.processes import ordered
from bench.workload import http_requests

if TYPE_CHECKING:
    import torch

    from tureen.model.packing import Packing
    from tureen.model.reward_model import RewardModel

NO_CUDA = "no CUDA device"
KEYS = ("gpu_matmul_share", "gpu_shared_over_unshared", "gpu_served_over_ceiling")


@dataclass(frozen=True)
class Size:
    """Of a decoder like Llama 3.1 8B; `matrix` is the side of the squares that are multiplied."""

    hidden: int = 4096
    intermediate: int = 14336
    layers: int = 32
    attention_heads: int = 32
    key_value_heads: int = 8
    vocabulary: int = 128_256
    matrix: int = 8192
    samples: int = 16
    tokens: int = 1024
    prompt: int = 512
    response: int = 128
    responses: int = 8


def measure(plan: Plan) -> Part:
    import torch

    if not torch.cuda.is_available():
        plan.say(f"gpu: {NO_CUDA}")
        return Part(dict.fromkeys(KEYS), [], {"not measured": NO_CUDA})
    decoder = measure_decoder(Size(), "cuda", torch.bfloat16, plan.rounds)
    served = _default_model(plan)
    ratios = {**decoder.ratios, **served.ratios}
    return Part(ratios, [*decoder.rows, *served.rows], {**decoder.details, **served.details})


def measure_decoder(size: Size, device: str, dtype: torch.dtype, rounds: int) -> Part:
    """Matrix products, the decoder and its shared prefixes, in turns."""
    import torch

    model = decoder(size, device, dtype)
    weights = matmul_weights(model)
    draw = torch.Generator().manual_seed(0)
    batch = rows(size.samples, size.tokens, size.vocabulary, device, draw)
    squares = torch.randn(2, size.matrix, size.matrix, generator=draw).to(device, dtype)
    alike = group(size, device, draw)
    mixed = mixed_rows(size, device, draw)
    tokens = int(mixed["attention_mask"].sum())
    packing = packing_of(model, mixed)
    works: dict[str, Callable[[], object]] = {
        "matrix product": lambda: squares[0] @ squares[1],
        "decoder": lambda: model(**batch),
        "unshared": lambda: model(**alike),
        "shared": shared_pass(model, alike, size.prompt),
        "padded": lambda: model(**mixed),
    }
    if packing is not None:  # after the trial that it comes from, padded rows run as they did
        works["packed"] = lambda: model(**mixed, packing=packing)
    took_s: dict[str, list[float]] = {name: [] for name in works}
    with torch.inference_mode():
        for number in range(-1, rounds):  # the first one warms up
            for name, work in works.items():
                seconds = timed(work, device)
                if number >= 0:
                    took_s[name].append(seconds)
    product_flop = 2 * size.matrix**3
    flop = {
        "matrix product": product_flop,
        "decoder": 2 * weights * size.samples * size.tokens,
        "padded": 2 * weights * tokens,
        "packed": 2 * weights * tokens,
    }
    rates = {
        name: [flop[name] / seconds for seconds in found]
        for name, found in took_s.items()
        if name in flop
    }
    decoder_s = statistics.median(took_s["decoder"])
    return Part(
        {
            "gpu_matmul_share": paired_ratio(rates["decoder"], rates["matrix product"]),
            "gpu_shared_over_unshared": paired_ratio(took_s["unshared"], took_s["shared"]),
        },
        [
            {"what": name, "TFLOP/s": round(statistics.median(found) / 1e12, 3)}
            for name, found in rates.items()
        ],
        {
            "device": torch.cuda.get_device_name() if device == "cuda" else device,
            "dtype": str(dtype).removeprefix("torch."),
            "weights_in_matrix_products": weights,
            "decoder_tokens_per_s": round(size.samples * size.tokens / decoder_s),
            "shared_prefix_limit": round(shared_limit(size), 3),
            "packed_over_padded": (
                round(paired_ratio(took_s["padded"], took_s["packed"]), 3)
                if packing is not None
                else "not measured: the trunk does not run packed here, the log says why"
            ),
            "packing_limit": round(mixed["input_ids"].numel() / tokens, 3),
            "seconds": {name: [round(s, 5) for s in found] for name, found in took_s.items()},
        },
    )


def mixed_rows(size: Size, device: str, draw: torch.Generator) -> dict[str, torch.Tensor]:
    """Rows of 1/16 to all of `size.tokens`, evenly spread, in any order; the reward at the last token."""
    import torch

    lengths = torch.linspace(size.tokens / 16, size.tokens, size.samples).round().long()
    lengths = lengths[torch.randperm(size.samples, generator=draw)].to(device)
    mixed = rows(size.samples, size.tokens, size.vocabulary, device, draw)
    mask = (torch.arange(size.tokens, device=device) < lengths[:, None]).long()
    last = torch.nn.functional.one_hot(lengths - 1, size.tokens).float()
    ids = mixed["input_ids"] * mask
    return mixed | {"input_ids": ids, "attention_mask": mask, "span_weights": last[:, None]}


def packing_of(model: RewardModel, rows: dict[str, torch.Tensor]) -> Packing | None:
    """Of rows that are on the device; None where the backbone cannot."""
    from tureen.model.packing import packer_of
    from tureen.model.transfer import upload

    packer = packer_of(model.backbone)
    if packer is None:
        return None
    mask = rows["attention_mask"].cpu().numpy()
    return packer.packing(mask, upload(packer.arrays(mask), rows["attention_mask"].device))


def shared_pass(
    model: RewardModel, group: dict[str, torch.Tensor], prompt: int
) -> Callable[[], torch.Tensor]:
    """A forward pass over rows that begin with one prompt, which runs once in it. Nothing is kept from
    one pass to the next."""
    import torch

    from tureen.model.prefix_cache import PrefixCache
    from tureen.model.shared_prefixes import SharedPrefixes
    from tureen.text.batch import Batch

    arrays = {name: tensor.cpu().numpy() for name, tensor in group.items()}
    lengths = np.full(len(arrays["input_ids"]), prompt)
    batch = Batch(**arrays, prefix_lengths=lengths)

    def run() -> torch.Tensor:
        split = SharedPrefixes(model.backbone, PrefixCache(0)).split(batch)
        assert split is not None, "this group is far above what is worth sharing"
        rest, prefixes = split
        tensors = {
            name: torch.from_numpy(array).to(model.backbone.device)
            for name, array in rest.arrays().items()
        }
        return model(**tensors, prefixes=prefixes)

    return run


def shared_limit(size: Size) -> float:
    """K (P + R) / (P + K R): the tokens that are computed K times over those computed once."""
    whole = size.responses * (size.prompt + size.response)
    return whole / (size.prompt + size.responses * size.response)


def decoder(size: Size, device: str, dtype: torch.dtype) -> RewardModel:
    """A `RewardModel` with one head on a Llama of random weights, made on the device."""
    import torch
    from transformers import LlamaConfig, LlamaModel

    from tureen.model.heads import RewardHeads
    from tureen.model.reward_model import RewardModel

    config = LlamaConfig(
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.attention_heads,
        num_key_value_heads=size.key_value_heads,
        vocab_size=size.vocabulary,
        max_position_embeddings=max(size.tokens, size.prompt + size.response),
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            trunk = LlamaModel(config)
    finally:
        torch.set_default_dtype(before)
    return RewardModel(trunk, RewardHeads.initialise(size.hidden, 1).to(device)).eval()


def matmul_weights(model: RewardModel) -> int:
    """Weights of the trunk that are multiplied with every token; embeddings are looked up."""
    import torch

    linear = (m for m in model.backbone.modules() if isinstance(m, torch.nn.Linear))
    return sum(module.weight.numel() for module in linear)


def rows(
    count: int, tokens: int, vocabulary: int, device: str, draw: torch.Generator
) -> dict[str, torch.Tensor]:
    """Arguments of `RewardModel.forward`: rows of equal length, the reward at the last token."""
    import torch

    weights = torch.zeros(count, 1, tokens)
    weights[:, 0, -1] = 1
    ids = torch.randint(vocabulary, (count, tokens), generator=draw)
    arguments = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
        "span_weights": weights,
    }
    return {name: tensor.to(device) for name, tensor in arguments.items()}


def timed(work: Callable[[], object], device: str) -> float:
    """Seconds until the device is done with it, not until it was told."""
    import torch

    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    started_s = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - started_s


def group(size: Size, device: str, draw: torch.Generator) -> dict[str, torch.Tensor]:
    """K rows that begin with one prompt."""
    tokens = size.prompt + size.response
    group = rows(size.responses, tokens, size.vocabulary, device, draw)
    group["input_ids"][:, : size.prompt] = group["input_ids"][0, : size.prompt]
    return group


def _default_model(plan: Plan) -> Part:
    """As `throughput`, on the GPU and with enough in flight to fill its batches."""
    on_gpu = {"backend": "torch", "device": "cuda", "dtype": "bfloat16"}
    flags = [word for key, value in on_gpu.items() for word in (f"--{key}", value)]
    variant = replace(plan.variants[0], flags=tuple(flags), options=on_gpu)
    concurrency, count = 16 * plan.concurrency, 16 * plan.samples
    rates: dict[str, list[float]] = {"served": [], "ceiling": []}
    one_s: list[float] = []
    at_once_s: list[float] = []
    with (
        plan.serving(variant) as server,
        ordered("bench.ceiling", variant.model, "--options", json.dumps(on_gpu)) as limit,
    ):
        model = described(server)
        for number in range(-1, plan.rounds):
            samples = plan.workload.samples(count + 2 * concurrency)
            outcome = run_closed(
                callers.http(server.http_port), http_requests(samples), concurrency
            )
            found = limit.ask(ceiling.as_json(samples))
            if number >= 0:
                rates["served"].append(steady_rate(outcome.done_s, concurrency))
                rates["ceiling"].append(found["samples_per_s"])
                one_s.append(found["seconds_one_at_a_time"])
                at_once_s.append(found["seconds_at_once"])
    return Part(
        {"gpu_served_over_ceiling": paired_ratio(rates["served"], rates["ceiling"])},
        [
            {"what": f"default model, {name}", "samples/s": round(statistics.median(found), 1)}
            for name, found in rates.items()
        ],
        {
            "default_model": {"backend": model["backend"], "dtype": model["dtype"]},
            "served_concurrency": concurrency,
            "batches_at_once_over_one_at_a_time": round(paired_ratio(one_s, at_once_s), 3),
        },
    )
