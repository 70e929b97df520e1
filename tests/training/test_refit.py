"""The heads that are fitted last: by hand, against an optimiser, and in a soup on disk."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pico
import pico_training
import pytest
import torch
from safetensors.torch import load_file
from scipy.optimize import minimize
from torch import Tensor

from tureen.model.checkpoint import load
from tureen.model.manifest import read_manifest
from tureen.model.reward_model import EVIDENCE_WIDTH, RewardModel
from tureen.model.soup import make_soup
from tureen.model.storage import HEAD_BIAS, HEAD_WEIGHT
from tureen.text.encoding import TextEncoder
from tureen.text.unit_features import UNIT_FEATURES
from tureen_training.data.items import Item, Values, run
from tureen_training.data.records import Comparison, Example, Pair, Split
from tureen_training.data.sets import encode_all, feedback_examples
from tureen_training.evaluation.scorers import forward_of, pad_id_of
from tureen_training.refit import (
    MARKED,
    clean_or_error,
    differences,
    evidence_basis,
    features,
    logistic,
    neutral_without_context,
    refit,
    units,
    widen,
)
from tureen_training.reward import QA_TEXT

TOKENS = 4096
NAMES = [head.name for head in pico.HEADS]
FIRST_SHARE = pico.HIDDEN
"""The column of the share without context, which `neutral_without_context` sets."""


@pytest.fixture
def soup(tmp_path: Path) -> Path:
    """Two members that read by the template `evidence`, trained on nothing."""
    make_soup(pico_training.members(tmp_path, 12), [0.25, 0.75], tmp_path / "soup", "weighted")
    return tmp_path / "soup"


@pytest.fixture
def examples(soup: Path) -> list[Example]:
    return list(feedback_examples(soup.parent / "data", Split.TRAIN))


def loaded(soup: Path) -> tuple[RewardModel, TextEncoder]:
    found = load(soup)
    assert isinstance(found.model, RewardModel)
    return found.model, TextEncoder.from_directory(found.tokenizer_directory, found.manifest.text)


def encoded(soup: Path, examples: list[Example]) -> list[Item]:
    return encode_all(examples, loaded(soup)[1], read_manifest(soup).heads, "test")


def values(soup: Path, examples: list[Example], group: int = 0) -> list[Values]:
    forward = forward_of(*loaded(soup), group)
    found = run(encoded(soup, examples), read_manifest(soup).heads, forward, TOKENS)
    return [answer for answers in found for answer in answers]


def stored(soup: Path) -> list[dict[str, Tensor]]:
    return [load_file(soup / one.file) for one in read_manifest(soup).ingredients]


def refitted(soup: Path, examples: list[Example]) -> None:
    model, encoder = loaded(soup)
    items = encode_all(examples, encoder, read_manifest(soup).heads, "test")
    refit(soup, features(model, items, pad_id_of(encoder), TOKENS), items, 30.0)


def test_a_soup_of_the_older_template_loads_and_wider_it_says_the_same(
    soup: Path, examples: list[Example]
):
    narrow, before, old = stored(soup), values(soup, examples), loaded(soup)[0]
    assert read_manifest(soup).text.template == "evidence"
    assert old.heads.width == pico.HIDDEN + EVIDENCE_WIDTH
    widen(soup)
    assert read_manifest(soup).text == dataclasses.replace(QA_TEXT, template="evidence-2")
    for one, other in zip(narrow, stored(soup), strict=True):
        weight = other.pop(HEAD_WEIGHT)
        assert torch.equal(weight[:, :-UNIT_FEATURES], one.pop(HEAD_WEIGHT))
        assert not weight[:, -UNIT_FEATURES:].any()
        assert_same(one, other)
    for one, other in zip(before, values(soup, examples), strict=True):
        for head in NAMES:
            torch.testing.assert_close(one.by_head[head], other.by_head[head])
    widened = stored(soup)
    widen(soup)  # once is enough
    for one, other in zip(widened, stored(soup), strict=True):
        assert_same(one, other)


def test_refitted_are_three_heads_and_nothing_else(soup: Path, examples: list[Example]):
    widen(soup)
    before, said = stored(soup), values(soup, examples)
    refitted(soup, examples)
    for one, other in zip(before, stored(soup), strict=True):
        old, new = one.pop(HEAD_WEIGHT), other.pop(HEAD_WEIGHT)
        old_bias, new_bias = one.pop(HEAD_BIAS), other.pop(HEAD_BIAS)
        assert_same(one, other)  # the trunk
        for place, name in enumerate(NAMES):
            kept = torch.arange(old.shape[1]) != FIRST_SHARE
            same = torch.equal(old[place, kept], new[place, kept])
            assert same == (name == "factuality")
            assert new[place, -UNIT_FEATURES:].any() == (name == MARKED)
        assert not new[NAMES.index(MARKED), : -UNIT_FEATURES - 1].any()  # a length and the counts
        assert new_bias[NAMES.index("factuality")] == old_bias[NAMES.index("factuality")]
    for one, other in zip(said, values(soup, examples), strict=True):  # all have a context
        assert torch.equal(one.by_head["factuality"], other.by_head["factuality"])
        assert not torch.equal(one.by_head[MARKED], other.by_head[MARKED])


def test_a_refitted_soup_is_still_the_mean_of_its_members(soup: Path, examples: list[Example]):
    widen(soup)
    refitted(soup, examples)
    of_soup, first, second = (values(soup, examples, group) for group in range(3))
    for whole, one, other in zip(of_soup, first, second, strict=True):
        for head in NAMES:
            mean = 0.25 * one.by_head[head] + 0.75 * other.by_head[head]
            torch.testing.assert_close(whole.by_head[head], mean)


def test_refitting_twice_is_refused(soup: Path, examples: list[Example]):
    widen(soup)
    refitted(soup, examples)
    once = stored(soup)
    with pytest.raises(
        ValueError, match=r"0\.safetensors was refitted before; begin with the soup"
    ):
        refitted(soup, examples)
    for one, other in zip(once, stored(soup), strict=True):
        assert_same(one, other)


def test_a_soup_that_was_not_widened_is_refused(soup: Path, examples: list[Example]):
    with pytest.raises(ValueError, match="reads text by 'evidence'; widen it"):
        refitted(soup, examples)


@pytest.mark.parametrize("clean", [[], [True, True], [False, False]])
def test_without_both_kinds_nothing_is_fitted(clean: list[bool]):
    with pytest.raises(ValueError, match=f"of {len(clean)} marked units {sum(clean)} are clean"):
        clean_or_error(np.ones((len(clean), 3)), np.array(clean, bool), 1.0)


def test_a_soup_that_compares_nothing_is_refused(tmp_path: Path):
    make_soup(pico.bert_members(tmp_path, 1), None, tmp_path / "soup", "uniform")
    with pytest.raises(ValueError, match=r"reads text by 'pair' .* needs text.template 'evidence'"):
        widen(tmp_path / "soup")
    assert read_manifest(tmp_path / "soup").text.template == "pair"


def test_what_relevance_is_fitted_on(soup: Path, examples: list[Example]):
    widen(soup)
    item = encoded(soup, examples)[0]
    x, clean = units(item)
    # Of the first answer the first sentence is clean and the second an error; nobody marked the others.
    assert clean.tolist() == [True, False]
    window = item.responses[0].windows[0]
    sizes = np.diff(window.spans[-2:])[:, 0]
    assert x[:, 0].tolist() == pytest.approx(np.log(sizes))
    assert window.unit_features is not None
    assert x[:, 1:].tolist() == window.unit_features[-2:].tolist()
    assert x[:, 1].tolist() == pytest.approx([0, np.log(2)])  # one stands before the second


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_differences_are_chosen_minus_rejected_of_what_teaches_the_head():
    example = Example(
        prompt_id="p",
        origin="feedback",
        prompt="q",
        responses=("a", "b", "c"),
        pairs={
            Comparison.PREFERENCE: (Pair(0, 1), Pair(2, 0)),
            Comparison.COVERAGE: (Pair(1, 2),),
        },
    )
    x = np.array([[1.0, 5.0], [3.0, 4.0], [0.0, 1.0]])
    assert differences(x, example, "preference").tolist() == [[-2.0, 1.0], [-1.0, -4.0]]
    assert differences(x, example, "completeness").tolist() == [[3.0, 3.0]]


def test_a_question_without_comparisons_has_no_differences():
    example = Example(prompt_id="p", origin="feedback", prompt="q", responses=("a",))
    assert differences(np.ones((1, 4)), example, "preference").shape == (0, 4)


def test_logistic_minimises_the_stated_loss():
    rng = np.random.default_rng(5)
    moves = rng.normal(size=(60, 3)) * [1.0, 20.0, 0.1] + [0.3, 2.0, 0.0]
    penalty = 7.0
    scale = np.sqrt((moves**2).mean(axis=0))

    def loss(w: np.ndarray) -> float:
        return float(np.logaddexp(0, -moves @ w).sum() + penalty / 2 * np.square(w * scale).sum())

    expected = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-8}).x
    assert logistic(moves, penalty) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_a_number_that_never_differs_gets_nothing():
    moves = np.array([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0]])
    assert logistic(moves, 1.0)[1] == 0.0


def test_evidence_stands_before_what_is_counted():
    basis = evidence_basis(2 + EVIDENCE_WIDTH + UNIT_FEATURES)
    assert basis.shape == (EVIDENCE_WIDTH, 2 + EVIDENCE_WIDTH + UNIT_FEATURES)
    assert (basis @ np.arange(2.0 + EVIDENCE_WIDTH + UNIT_FEATURES)).tolist() == [
        2.0 + i for i in range(EVIDENCE_WIDTH)
    ]


def test_without_context_is_as_with_average_evidence():
    hidden, compared, counted = 2, EVIDENCE_WIDTH - 2, [3.0] * UNIT_FEATURES
    weight = np.arange(1.0, 1 + hidden + EVIDENCE_WIDTH + UNIT_FEATURES)[None]
    means = np.concatenate([[9.0, 9.0], [0.0], np.full(compared, 0.5), [4.0], counted])
    found = neutral_without_context(weight, means)
    nothing = [0.0] * UNIT_FEATURES
    average = np.concatenate([[0.0, 0.0], [0.0], np.full(compared, 0.5), [0.0], nothing])
    absent = np.concatenate([[0.0, 0.0], [4.0], np.zeros(compared), [0.0], nothing])
    assert found[0] @ absent == pytest.approx(found[0] @ average)
    assert np.delete(found, hidden, axis=1).tolist() == np.delete(weight, hidden, axis=1).tolist()


def test_clean_or_error_minimises_the_stated_loss():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(80, 3)) * [1.0, 20.0, 0.1] + [0.3, 2.0, 0.0]
    clean = x[:, 0] + rng.normal(size=80) > 0
    penalty, sd = 7.0, x.std(axis=0)

    def loss(w: np.ndarray) -> float:
        margin = np.where(clean, 1, -1) * (x @ w[:3] + w[3])
        return float(np.logaddexp(0, -margin).sum() + penalty / 2 * np.square(w[:3] * sd).sum())

    expected = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-8}).x
    weight, bias = clean_or_error(x, clean, penalty)
    assert [*weight, bias] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_a_number_that_is_always_the_same_says_nothing():
    x = np.array([[1.0, 5.0], [2.0, 5.0], [-1.0, 5.0]])
    weight, _ = clean_or_error(x, np.array([True, True, False]), 1.0)
    assert weight[1] == 0.0
