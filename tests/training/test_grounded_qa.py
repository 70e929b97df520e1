"""The model that ships says of itself what its manifest says."""

from pathlib import Path

import pytest

from tureen.contracts import Granularity
from tureen.model.manifest import Manifest, read_manifest
from tureen_training.card import MEANINGS
from tureen_training.reference import REFERENCE_SAMPLES

DIRECTORY = Path(__file__).parents[2] / "service" / "models" / "grounded-qa"
LIMIT_BYTES = 32 * 10**6


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return read_manifest(DIRECTORY)


def test_the_card_gives_the_figures_of_the_manifest(manifest: Manifest):
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (DIRECTORY / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ]
    table = {row[0]: row[1:] for row in rows}
    assert manifest.metrics["split"] == "test"
    for name, figure in manifest.metrics["figures"].items():
        assert name in MEANINGS
        value, interval, n, prompts, baseline, _ = table[name]
        assert value == f"{figure['value']:.3f}"
        assert interval == f"{figure['low']:.3f} – {figure['high']:.3f}"
        assert (n, prompts) == (str(figure["n"]), str(figure["prompts"]))
        assert baseline.startswith(f"{figure['baseline']:.3f} ")
        assert figure["low"] <= figure["value"] <= figure["high"]


def test_heads_speak_at_their_granularity(manifest: Manifest):
    assert {head.name: head.granularity for head in manifest.heads} == {
        "preference": Granularity.RESPONSE,
        "factuality": Granularity.SENTENCE,
        "relevance": Granularity.SUB_SENTENCE,
        "completeness": Granularity.RESPONSE,
    }


def test_no_text_but_our_own_and_no_more_than_allowed(manifest: Manifest):
    assert tuple(entry.sample for entry in manifest.reference) == REFERENCE_SAMPLES
    files = [path for path in DIRECTORY.rglob("*") if path.is_file() and "onnx" not in path.parts]
    assert sum(path.stat().st_size for path in files) <= LIMIT_BYTES
    assert {path.suffix for path in files} <= {".md", ".json", ".safetensors"}


def test_licences_and_calibration_are_stated(manifest: Manifest):
    assert any("Apache-2.0" in licence for licence in manifest.data_licences)
    assert any("CC BY-SA" in licence for licence in manifest.data_licences)
    assert manifest.calibration_set is not None
    assert all(head.calibration.std > 0 for head in manifest.heads)
