"""Demo `credit`: where rewards are put and what becomes of them, by hand; a small run."""

from pathlib import Path

import pytest
import torch

from tureen_training.demo.credit import ARMS, Config, credited, curve, main, placed


def amounts() -> torch.Tensor:
    return torch.arange(1.0, 17.0).view(2, 8)  # 1 … 8 and 9 … 16


def test_every_place_keeps_the_sum():
    for arm in ARMS:
        rewards = placed(amounts(), arm, torch.Generator().manual_seed(0))
        assert rewards.shape == (2, 32)
        assert sorted(rewards.sum(1).tolist()) == [36.0, 100.0]
    assert placed(amounts(), "holistic", torch.Generator())[0].nonzero().tolist() == [[31]]
    dense = placed(amounts(), "dense", torch.Generator())
    assert dense[0].nonzero().flatten().tolist() == [3, 7, 11, 15, 19, 23, 27, 31]
    assert dense[1, 3::4].tolist() == amounts()[1].tolist()


def test_a_segment_of_its_own_hands_nothing_on():
    rewards = placed(amounts()[:1], "own", torch.Generator())
    values = torch.full((1, 32), 0.5)
    advantages, returns = credited(rewards, values, own=False)
    # all that is to come, less what was expected
    assert returns[0, :8].tolist() == pytest.approx([36.0] * 4 + [35.0] * 4)
    assert advantages[0, 4].item() == pytest.approx(34.5)
    advantages, returns = credited(rewards, values, own=True)
    assert returns[0, :8].tolist() == pytest.approx([1.0] * 4 + [2.0] * 4)
    assert advantages[0, 31].item() == pytest.approx(7.5)


def test_what_is_exchanged_teaches_nothing_and_what_is_dense_does():
    config = Config(steps=40, look_steps=20)
    start, _, end = curve(config, "dense", 7)
    assert end > start + 5
    start, _, end = curve(config, "exchanged", 7)
    assert abs(end - start) < 5


def test_a_small_run_is_reported(tmp_path: Path):
    report = main(Config(out=str(tmp_path), seeds=2, steps=10, look_steps=5))
    assert set(report["arms"]) == set(ARMS)
    assert (tmp_path / "credit.json").is_file()
    assert (tmp_path / "credit.png").is_file()
    with pytest.raises(ValueError, match="must divide"):
        Config(steps=10, look_steps=4)
