from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest
from engine_fakes import PATIENCE_S

from tureen.adapters import shared
from tureen.adapters.oracle import OracleUnavailable, Unscorable
from tureen.adapters.shared import Gathered, Unscored, content_of, described, gathered, sample_of
from tureen.contracts import Message, Sample

ONE, TWO, THREE = (Sample(prompt="p", responses=(text,)) for text in ("1", "2", "3"))


class Held:
    """An oracle whose answers the test gives."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[Sample], Future]] = []

    def submit(self, samples: list[Sample]) -> Future:
        self.asked.append((samples, Future()))
        return self.asked[-1][1]


class TestGathered:
    @pytest.fixture
    def oracle(self):
        return Held()

    @pytest.fixture
    def gathering(self, oracle):
        return Gathered(oracle)

    def test_what_arrives_while_a_batch_is_under_way_is_the_next(self, oracle, gathering):
        futures = [gathering.submit(sample) for sample in (ONE, TWO, THREE)]
        assert [samples for samples, _ in oracle.asked] == [[ONE]]
        oracle.asked[0][1].set_result(["first"])
        assert [samples for samples, _ in oracle.asked] == [[ONE], [TWO, THREE]]
        oracle.asked[1][1].set_result(["second", "third"])
        assert [future.result(0) for future in futures] == ["first", "second", "third"]

    def test_a_failure_is_that_of_its_batch(self, oracle, gathering):
        futures = [gathering.submit(sample) for sample in (ONE, TWO, THREE)]
        oracle.asked[0][1].set_exception(OracleUnavailable("gone"))
        oracle.asked[1][1].set_result(["second", "third"])
        with pytest.raises(OracleUnavailable, match="gone"):
            futures[0].result(0)
        assert [future.result(0) for future in futures[1:]] == ["second", "third"]

    def test_who_has_left_is_not_asked_for(self, oracle, gathering):
        futures = [gathering.submit(sample) for sample in (ONE, TWO, THREE)]
        assert futures[1].cancel()
        oracle.asked[0][1].set_result(["first"])
        assert oracle.asked[1][0] == [THREE]

    def test_a_closed_oracle_is_heard_of_by_everyone(self, oracle, gathering):
        def closed(samples):
            raise RuntimeError("cannot schedule new futures after shutdown")

        first = gathering.submit(ONE)
        waiting = gathering.submit(TWO)
        oracle.submit = closed
        oracle.asked[0][1].set_result(["first"])
        later = gathering.submit(THREE)
        assert first.result(0) == "first"
        for future in (waiting, later):
            with pytest.raises(RuntimeError, match="shutdown"):
                future.result(0)

    def test_many_threads(self, service, score):
        """Each hears of its own sample."""
        found: dict[int, float] = {}

        def ask(n: int) -> None:
            reward = gathered().submit(sample_of("p", f"response {n}")).result(PATIENCE_S)
            found[n] = shared.scored(reward).reward

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert found == {n: score(f"response {n}", prompt="p").reward for n in range(24)}


class TestTheEnvironment:
    def test_no_service_is_named(self, monkeypatch):
        monkeypatch.delenv("TUREEN_URL", raising=False)
        with pytest.raises(ValueError, match="set TUREEN_URL"):
            gathered()

    @pytest.mark.parametrize(
        ("options", "message"),
        [("{", "is no JSON"), ("[1]", "give a JSON object"), ('{"penalti": 1}', "'penalty'")],
    )
    def test_options_that_are_none(self, monkeypatch, options, message):
        monkeypatch.setenv("TUREEN_URL", "localhost:1")
        monkeypatch.setenv("TUREEN_OPTIONS", options)
        with pytest.raises(ValueError, match=message):
            gathered()

    def test_what_is_given_goes_before_the_environment(self, service, monkeypatch):
        """The same arguments are the same connection."""
        monkeypatch.setenv("TUREEN_OPTIONS", '{"patience_s": 7, "on_swap": "refuse"}')
        connection = gathered(service.url, options={"patience_s": 9})
        assert (connection.oracle.url, connection.oracle.patience_s) == (service.url, 9)
        assert connection.oracle.on_swap == "refuse"
        assert gathered(service.url, options={"patience_s": 9}) is connection
        connection.oracle.close()


class TestSamples:
    def test_messages_and_evidence(self):
        assert sample_of([{"role": "user", "content": "q", "name": "x"}], "r", "passage") == Sample(
            messages=(Message(role="user", content="q"),), context=("passage",), responses=("r",)
        )
        assert sample_of("q", "r", ["a", "b"]).context == ("a", "b")
        assert sample_of("q", "r").context == ()

    def test_content_in_parts(self):
        parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
        assert content_of({"role": "user", "content": parts}) == "ab"

    @pytest.mark.parametrize("content", [None, [{"type": "image"}], 3])
    def test_content_that_is_no_text(self, content):
        with pytest.raises(ValueError, match="'user' holds something else than text"):
            content_of({"role": "user", "content": content})

    @pytest.mark.parametrize("label", ["42", "no JSON", "[1]", None, 3, {"answer": "42"}])
    def test_labels_that_are_not_ours(self, label):
        assert described(label) == {}

    def test_a_label_that_is(self):
        assert described('{"prompt": "q", "context": ["c"], "answer": "42"}') == {
            "prompt": "q",
            "context": ["c"],
        }

    def test_what_cannot_be_scored_is_raised(self):
        with pytest.raises(Unscored, match=r"\(input_too_long\): 9 tokens\. No reward was subst"):
            shared.scored(Unscorable("input_too_long", "9 tokens."))
