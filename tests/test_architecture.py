"""The shape of the house: what is public, what is long, what the documents say of the tree."""

import re
from pathlib import Path

import tureen

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    path
    for root in ("service/tureen", "training/tureen_training", "tests")
    for path in sorted((ROOT / root).rglob("*.py"))
    if not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))
]
LONG_FILES: dict[str, str] = {}  # file above 400 lines -> why it stays whole


def test_public_names_are_sorted_and_all_there():
    assert tureen.__all__ == sorted(tureen.__all__)
    for name in tureen.__all__:
        assert hasattr(tureen, name), name


def test_no_file_is_long_without_a_reason():
    long = {
        str(path.relative_to(ROOT))
        for path in SOURCES
        if len(path.read_text(encoding="utf-8").splitlines()) > 400
    }
    assert long == set(LONG_FILES)


def test_the_reading_order_names_files_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files = re.findall(r"`((?:transports|engine|text|model)/\w+\.py)`", text)
    assert len(files) >= 7
    for name in files:
        assert (ROOT / "service/tureen" / name).is_file(), name


def test_every_layer_of_the_diagram_is_a_package():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    layers = set(re.findall(r"^tureen\.(\w+)", text, flags=re.MULTILINE))
    packages = {path.name for path in (ROOT / "service/tureen").iterdir() if path.is_dir()}
    beside = {"v1", "client", "adapters", "commands", "console", "__pycache__"}
    assert layers & packages == packages - beside


def test_constraints_pin_every_requirement():
    """An unpinned requirement would float on `make install`."""
    pins = {
        re.split(r"==", line)[0].strip().lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = pyproject[pyproject.index("dependencies = [") : pyproject.index("[tool.hatch.version]")]
    names = {
        re.match(r"[\w.-]+", spec).group().lower()  # pyright: ignore[reportOptionalMemberAccess]
        for spec in re.findall(r'"([^"\n]+[<>=~][^"\n]*|tureen\[[^"]+)"', block)
    }
    assert names - pins == {"tureen"}
