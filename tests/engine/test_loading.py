"""From a name to a model: what is said of one on the way."""

import logging
from pathlib import Path

import pico
import pytest

from tureen.engine.loading import load_model


def test_labels_that_may_exclude_each_other_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """The mean of the logits of NEGATIVE and POSITIVE is no reward: softmax does not depend on it."""
    directory = pico.bert_classifier(tmp_path / "sentiment", 2)
    with caplog.at_level(logging.WARNING, logger="tureen"):
        load_model(directory, device="cpu")
    [record] = caplog.records
    assert "its 2 labels (LABEL_0, LABEL_1) are its heads" in record.getMessage()
    assert '"weights": {"LABEL_1": 1, "LABEL_0": -1}' in record.getMessage()


def test_one_label_is_a_reward(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, logger="tureen"):
        load_model(pico.bert_classifier(tmp_path / "reward", 1), device="cpu")
    assert not caplog.records
