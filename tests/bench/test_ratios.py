import pytest
from bench.ratios import TARGETS, joined


def test_what_was_not_measured_is_null():
    found = joined([{"stub_over_echo": 0.61234}, {"int8_over_control": None}])
    assert list(found) == list(TARGETS)
    assert found.pop("stub_over_echo") == 0.6123
    assert set(found.values()) == {None}


def test_a_ratio_nobody_asked_for_is_a_mistake():
    with pytest.raises(KeyError, match="served_over_moon"):
        joined([{"served_over_moon": 1.0}])
