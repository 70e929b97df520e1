from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pico
import pytest

from tureen.contracts import Calibration, Granularity, Sample
from tureen.model.manifest import (
    BaseRef,
    HeadSpec,
    Ingredient,
    Manifest,
    ModelError,
    ReferenceScore,
    check_coefficients,
    fingerprint,
    read_manifest,
    write_manifest,
)
from tureen.model.schema import SchemaError

SHA = "0" * 64


def ingredient(
    name: str = "a", coefficient: float = 1.0, file: str = "a.safetensors"
) -> Ingredient:
    return Ingredient(name=name, file=file, coefficient=coefficient, sha256=SHA)


def manifest(**changes: Any) -> Manifest:
    whole = Manifest(
        model_id="m",
        base=BaseRef(repo="org/base", revision="main", sha256=SHA, wheel="package/model"),
        text=pico.PAIR,
        heads=pico.HEADS,
        temperature=1.5,
        ingredients=(ingredient("a", 0.25), ingredient("b", 0.75)),
        recipe="weighted",
        encoding="delta",
        lineage={"sft": "x"},
        data_licences=("MIT",),
        calibration_set="dev",
        metrics={"accuracy": {"mean": 0.7}},
        reference=(
            ReferenceScore(sample=Sample(prompt="p", responses=("é", "b")), rewards=(0.5, -1.0)),
        ),
    )
    return dataclasses.replace(whole, **changes)


def test_a_manifest_survives_the_disk(tmp_path: Path):
    write_manifest(tmp_path, manifest())
    assert read_manifest(tmp_path) == manifest()


def test_label_and_groups_count_the_ingredients():
    assert manifest().soup == "weighted:2"
    assert manifest().groups == 3  # the soup and two members
    single = manifest(ingredients=(ingredient(),), recipe="single")
    assert (single.soup, single.groups) == ("single:1", 1)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.update(format_version=2), "format_version is 2; this Tureen reads 1"),
        (lambda d: d.pop("format_version"), "format_version is None"),
        (lambda d: d.update(haeds=[]), "haeds is unknown; did you mean 'heads'"),
        (lambda d: d["heads"][0].update(wieght=1), r"heads\[0\]\.wieght is unknown; .*'weight'"),
        (lambda d: d.update(ingredients=[]), "ingredients is empty"),
        (lambda d: d["ingredients"][0].update(sha256="xyz"), "64 lower-case hexadecimal digits"),
        (lambda d: d["ingredients"][0].update(file="../a"), "must lie inside the model directory"),
        (
            lambda d: d["ingredients"][0].update(file="/etc/a"),
            "must lie inside the model directory",
        ),
        (lambda d: d["ingredients"][1].update(name="a"), "ingredients has 'a' twice"),
        (lambda d: d["ingredients"][0].update(coefficient=0.5), "add up to 1.25; .* divide each"),
        (lambda d: d["heads"][0]["calibration"].update(std=0.0), "calibration.std .* above 0"),
        (lambda d: d["heads"][0].update(name="penalty"), "a head is named 'penalty'"),
        (lambda d: d.update(heads=[]), "heads is empty"),
        (lambda d: d.update(temperature=0.0), "temperature is 0.0"),
        (lambda d: d.update(base=None), '"delta" without a base'),
        (lambda d: d["text"].update(segmenter="spacy-3"), "segmenter"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused_with_the_reason(
    tmp_path: Path, edit: Any, message: str
):
    write_manifest(tmp_path, manifest())
    data = json.loads((tmp_path / "tureen.json").read_text())
    edit(data)
    (tmp_path / "tureen.json").write_text(json.dumps(data))
    with pytest.raises(ModelError, match=message):
        read_manifest(tmp_path)


def test_what_is_not_json_or_not_there_is_said(tmp_path: Path):
    with pytest.raises(ModelError, match=r"has no tureen\.json"):
        read_manifest(tmp_path)
    (tmp_path / "tureen.json").write_text('{"format_version": 1')
    with pytest.raises(ModelError, match=r"tureen\.json: Expecting"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("coefficients", [(0.5, 0.5), (0.0, 1.0), (1.0,), (1 / 3, 1 / 3, 1 / 3)])
def test_convex_combinations_pass(coefficients: tuple[float, ...]):
    check_coefficients(coefficients)


@pytest.mark.parametrize(
    ("coefficients", "message"),
    [
        ((0.5, 0.4), "add up to 0.9"),
        ((1.5, -0.5), "at least 0"),
        ((float("nan"), 1.0), "finite"),
        ((float("inf"), 0.0), "finite"),
        ((), "add up to 0"),
    ],
)
def test_others_do_not(coefficients: tuple[float, ...], message: str):
    with pytest.raises(SchemaError, match=message):
        check_coefficients(coefficients)


def changed_head(**changes: Any) -> tuple[HeadSpec, ...]:
    return (dataclasses.replace(pico.HEADS[0], **changes), *pico.HEADS[1:])


@pytest.mark.parametrize(
    "changes",
    [
        {"ingredients": (ingredient("a", 0.75), ingredient("b", 0.25))},
        {"heads": changed_head(weight=0.0)},
        {"heads": changed_head(calibration=Calibration(mean=1.0, std=1.0))},
        {"heads": changed_head(granularity=Granularity.SENTENCE)},
        {"heads": changed_head(combine="min")},
        {"text": dataclasses.replace(pico.PAIR, max_windows=1)},
        {"base": BaseRef(repo="org/base", revision="main", sha256="1" * 64)},
        {"temperature": 1.0},
    ],
)
def test_the_fingerprint_changes_with_what_changes_scores(tmp_path: Path, changes: dict[str, Any]):
    before = fingerprint(tmp_path, manifest())
    assert before.startswith("sha256:")
    assert len(before) == len("sha256:") + 64
    assert fingerprint(tmp_path, manifest(**changes)) != before


def test_the_fingerprint_ignores_what_does_not(tmp_path: Path):
    other = manifest(model_id="n", metrics={}, lineage={}, data_licences=(), reference=())
    assert fingerprint(tmp_path, other) == fingerprint(tmp_path, manifest())
    decided = tuple(dataclasses.replace(head, threshold=0.5) for head in pico.HEADS)
    assert fingerprint(tmp_path, manifest(heads=decided)) == fingerprint(tmp_path, manifest())


def test_a_changed_tokenizer_changes_the_fingerprint(tmp_path: Path):
    before = fingerprint(tmp_path, manifest())
    (tmp_path / "tokenizer.json").write_text("{}")
    assert fingerprint(tmp_path, manifest()) != before


def test_reading_a_model_directory_needs_no_torch():
    code = "import sys, tureen.model.directory, tureen.model.base; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
