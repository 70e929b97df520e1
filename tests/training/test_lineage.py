from __future__ import annotations

from pathlib import Path

import pytest
from model_info import model_info

from tureen.contracts import IngredientInfo
from tureen_training.lineage import begun_from, lineage_mismatch

INFO = model_info(id="soup", base="org/base")
ONE, OTHER = "1" * 64, "2" * 64


@pytest.mark.parametrize(
    "lineage",
    [
        {"stage": "sft", "base": "org/base", "base_lineage": {}},
        {"base": "runs/sft", "base_lineage": {"base": "org/base"}},
    ],
)
def test_the_same(lineage):
    assert lineage_mismatch(lineage, INFO) is None


@pytest.mark.parametrize(
    ("lineage", "own"),
    [
        ({"base": "org/other", "base_lineage": {"base": "old"}}, "from org/other from old:"),
        ({"base": {"layers": 4}}, "from {'layers': 4}:"),
        ({}, "from a base its lineage does not name:"),
    ],
)
def test_another(lineage, own):
    message = lineage_mismatch(lineage, INFO)
    assert message is not None
    assert "'soup' is made from 'org/base', the policy " + own in message


def made_from(base: str, sha256: str):
    """A soup whose ingredient knows the hash of what it began from."""
    lineage = {"base": base, "base_sha256": sha256}
    ingredient = IngredientInfo(name="a", coefficient=1.0, fingerprint="f", lineage=lineage)
    return model_info(id="soup", base="a/copy", ingredients=(ingredient,))


def test_hashes_decide_where_both_know_them():
    """A copy under another name is kin; another checkpoint under the same name is not."""
    policy = {"base": "runs/sft", "base_lineage": {"base": "here/base", "base_sha256": ONE}}
    assert lineage_mismatch(policy, made_from("there/base", ONE)) is None
    assert lineage_mismatch(policy, made_from("here/base", OTHER)) is not None
    nameless = {"base": "here/base"}
    assert lineage_mismatch(nameless, made_from("here/base", OTHER)) is None


def test_a_path_is_a_place(tmp_path: Path, monkeypatch):
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    assert lineage_mismatch({"base": "base"}, model_info(base=str(tmp_path / "base"))) is None
    assert lineage_mismatch({"base": "missing"}, model_info(base=str(tmp_path / "missing")))


def test_what_a_policy_began_from(tmp_path: Path):
    """SHA-256 of "abc" from FIPS 180-2, appendix B.1."""
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    found = begun_from(tmp_path, {"base": "older"})
    assert found == {
        "base": str(tmp_path),
        "base_lineage": {"base": "older"},
        "base_sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }
    assert begun_from(tmp_path / "none", {}) == {
        "base": str(tmp_path / "none"),
        "base_lineage": {},
    }
    assert "base_sha256" not in begun_from("org/not-in-the-cache", {})
