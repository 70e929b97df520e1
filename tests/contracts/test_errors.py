from __future__ import annotations

import pickle

import pytest

from tureen import errors
from tureen.contracts import ErrorInfo, SampleResult, Score, ScoreResponse

FIGURES = {"field": "responses[3]", "got": 5214, "limit": 4096, "retry_after_s": 1.5}


@pytest.mark.parametrize("kind", errors.ERRORS.values())
class TestTable:
    def test_the_docstring_is_the_table(self, kind):
        [line] = [text for text in (errors.__doc__ or "").splitlines() if f" {kind.code} " in text]
        assert f" {kind.http_status} " in line
        assert f" {kind.grpc_status}" in line
        assert ("(again)" in line) is kind.retryable

    def test_over_the_wire_and_back(self, kind):
        error = kind("message", **FIGURES)
        again = errors.from_info(error.info())
        assert type(again) is kind
        assert again.info() == error.info()

    def test_through_pickle(self, kind):
        error = kind("message", **FIGURES)
        assert pickle.loads(pickle.dumps(error)).info() == error.info()


def test_missing_extra_through_pickle():
    again = pickle.loads(pickle.dumps(errors.MissingExtra("The gRPC client", "grpc")))
    assert str(again).endswith("pip install 'tureen[grpc]'")


def test_standard_families():
    assert issubclass(errors.InvalidRequest, ValueError)
    assert issubclass(errors.NotFound, LookupError)
    assert issubclass(errors.DeadlineExceeded, TimeoutError)
    assert issubclass(errors.ServiceUnreachable, ConnectionError)


@pytest.mark.parametrize("retryable", [True, False])
def test_a_code_of_a_newer_server_says_itself_whether_to_try_again(retryable: bool):
    info = ErrorInfo(code="from_the_future", message="m", retryable=retryable, **FIGURES)
    error = errors.from_info(info)
    assert isinstance(error, errors.UnlistedError)
    assert (error.code, error.retryable) == ("from_the_future", retryable)
    assert error.info() == pickle.loads(pickle.dumps(error)).info() == info


def test_the_door_rule():
    """The first error when nothing was scored; none as soon as one sample was."""
    fine = SampleResult(scores=(Score(reward=0.0, heads={}, tokens=1),))
    long = SampleResult(error=errors.InputTooLong("long").info())
    busy = SampleResult(error=errors.Overloaded("busy").info())

    def failure(*results):
        return errors.failure_of(
            ScoreResponse(model="m", fingerprint="f", soup="s", results=results)
        )

    assert failure(long, fine) is None
    assert isinstance(failure(long, busy), errors.InputTooLong)
    assert failure() is None


def test_nearest():
    assert errors.nearest("factualty", ["relevance", "factuality"]) == (
        "; did you mean 'factuality'? Known: factuality, relevance"
    )
    assert errors.nearest("zzz", ["b", "a"]) == ". Known: a, b"


@pytest.mark.parametrize(
    ("got", "carried"),
    [
        (10**30, "1" + "0" * 30),
        (-(2**63), -(2**63)),
        (float("-inf"), "-inf"),
        (1e308, 1e308),
        (True, "true"),
        ("x" * 5000, "x" * errors.CARRIED),
    ],
)
def test_what_cannot_travel_is_told_as_text(got, carried):
    assert errors.InvalidRequest("m", got=got).got == carried


def test_a_long_name_is_not_repeated_whole():
    assert len(errors.quoted("é" * 5000)) < 100
    assert errors.nearest("stu" + "b" * 5_000_000, ["stub"]).endswith(". Known: stub")
