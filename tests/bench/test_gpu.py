"""The GPU script at toy size on a CPU: its counts by hand, its figures present."""

import pytest

torch = pytest.importorskip("torch")

from bench import gpu  # noqa: E402

TOY = gpu.Size(
    hidden=32,
    intermediate=64,
    layers=2,
    attention_heads=4,
    key_value_heads=2,
    vocabulary=50,
    matrix=16,
    samples=2,
    tokens=24,
    prompt=8,
    response=2,
    responses=3,
)


def test_the_weights_that_every_token_is_multiplied_with():
    """A layer: q and o 32x32, k and v 32x16, three of the MLP 32x64: 9,216; two layers of them."""
    model = gpu.decoder(TOY, "cpu", torch.float32)
    assert gpu.matmul_weights(model) == 2 * (2 * 1024 + 2 * 512 + 3 * 2048) == 18_432


def test_the_default_size_is_of_the_8b_class():
    """Llama 3.1 8B without its embeddings: 32 layers of 2·4096² + 2·4096·1024 + 3·4096·14336."""
    size = gpu.Size()
    layer = 2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336
    with torch.device("meta"):
        model = gpu.decoder(size, "meta", torch.bfloat16)
    assert gpu.matmul_weights(model) == 32 * layer == 6_979_321_856


def test_the_limit_of_sharing_a_prompt():
    """K (P + R) / (P + K R): 8 · 640 / 1536, and 3 · 10 / 14."""
    assert gpu.shared_limit(gpu.Size()) == pytest.approx(3.3333, abs=1e-4)
    assert gpu.shared_limit(TOY) == pytest.approx(30 / 14)


def test_a_toy_decoder_is_measured():
    part = gpu.measure_decoder(TOY, "cpu", torch.float32, rounds=2)
    share = part.ratios["gpu_matmul_share"]
    assert share is not None
    assert share > 0
    assert {row["what"] for row in part.rows} == {"matrix product", "decoder", "padded", "packed"}
    assert part.details["packing_limit"] == pytest.approx(2 * 24 / (2 + 24), abs=1e-3)
    assert part.details["packed_over_padded"] > 0
    assert all(len(found) == 2 for found in part.details["seconds"].values())
    assert part.ratios["gpu_shared_over_unshared"] is not None


def test_a_shared_prompt_gives_the_same_values():
    torch.manual_seed(0)
    model = gpu.decoder(TOY, "cpu", torch.float32)
    shared = gpu.shared_pass(model, _group(), TOY.prompt)
    with torch.inference_mode():
        torch.testing.assert_close(shared(), model(**_group()), atol=1e-5, rtol=0)


def test_rows_without_padding_give_the_same_values():
    torch.manual_seed(0)
    model = gpu.decoder(TOY, "cpu", torch.float32)
    mixed = gpu.mixed_rows(TOY, "cpu", torch.Generator().manual_seed(1))
    assert sorted(mixed["attention_mask"].sum(dim=1).tolist()) == [2, 24]  # 24 / 16 is 1.5
    with torch.inference_mode():
        expected = model(**mixed)
        packing = gpu.packing_of(model, mixed)
        assert packing is not None
        torch.testing.assert_close(model(**mixed, packing=packing), expected, atol=1e-5, rtol=0)


def _group():
    return gpu.group(TOY, "cpu", torch.Generator().manual_seed(1))
