from pathlib import Path

import pico
import pytest

from tureen.model.soup import make_soup


@pytest.fixture(scope="session")
def soup_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("soups")
    make_soup(pico.bert_members(folder, n=2), None, folder / "soup", "uniform")
    return folder / "soup"
