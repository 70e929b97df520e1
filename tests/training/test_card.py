"""The card says what the manifest says, in the manifest's figures."""

from __future__ import annotations

import dataclasses

import pico
import pytest

from tureen.model.manifest import BaseRef, Ingredient, Manifest
from tureen_training.card import MEANINGS, card, write_card

SHA = "0" * 64


def manifest(**changes) -> Manifest:
    figure = {"value": 0.61, "low": 0.5, "high": 0.7, "n": 40, "prompts": 9, "baseline": 0.6}
    heads = tuple(
        dataclasses.replace(head, threshold=0.25) if head.name == "relevance" else head
        for head in pico.HEADS
    )
    whole = Manifest(
        model_id="judge",
        base=BaseRef(repo="org/base", revision="main", sha256=SHA),
        text=pico.PAIR,
        heads=heads,
        ingredients=(
            Ingredient(
                name="a", file="a", coefficient=0.5, sha256=SHA, lineage={"data": "questions"}
            ),
            Ingredient(name="b", file="b", coefficient=0.5, sha256=SHA),
        ),
        recipe="uniform",
        lineage={"commands": "tureen-train soup"},
        data_licences=("ours: MIT",),
        calibration_set="the validation part",
        metrics={"figures": dict.fromkeys(MEANINGS, figure)},
    )
    return dataclasses.replace(whole, **changes)


def rows(text: str) -> dict[str, list[str]]:
    table = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in table}


def test_heads_figures_ingredients():
    table = rows(card(manifest()))
    assert table["relevance"] == ["sub-sentence", "0.2", "0.000", "1.000", "0.250", "mean"]
    assert table["factuality"] == ["sentence", "0.3", "0.100", "0.500", "", "mean"]
    value, interval, n, prompts, baseline, meaning = table["preference_ece"]
    assert (value, interval, n, prompts) == ("0.610", "0.500 – 0.700", "40", "9")
    assert baseline.startswith("0.600 (always ½")
    assert "lower is better" in meaning
    assert table["a"] == ["0.5", "data: questions"]


def test_every_table_has_rows_as_wide_as_its_head():
    lines = card(manifest()).splitlines()
    starts = [n for n, line in enumerate(lines) if line.startswith("|---")]
    assert len(starts) == 3
    for start in starts:
        width = lines[start].count("|")
        assert lines[start - 1].count("|") == width
        assert lines[start + 1].count("|") == width


def test_a_figure_without_a_meaning_is_an_error():
    with pytest.raises(KeyError, match="wisdom"):
        card(manifest(metrics={"figures": {"wisdom": {}}}))


def test_it_stands_beside_the_manifest(tmp_path):
    write_card(tmp_path, manifest())
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == card(manifest())
