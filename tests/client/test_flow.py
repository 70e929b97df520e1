"""The conversation alone: a clock that stands still unless somebody waits, and a server of three lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from client.stand_in import StandIn
from model_info import limits

from tureen.client.flow import Call, Flow, Retry, Send, Wait
from tureen.contracts import ModelList, RankRequest, Sample, ScoreRequest, ScoreResponse
from tureen.errors import (
    BackendFailure,
    DeadlineExceeded,
    InputTooLong,
    InvalidRequest,
    Overloaded,
    ServiceUnreachable,
    TureenError,
    UnknownModel,
)

Outcome = Any


class Theatre:
    """Drives a flow, with one second a call; keeps what was asked and how long was waited."""

    def __init__(self, service: StandIn | None = None, **settings: Any) -> None:
        self.now_s = 100.0
        self.calls: list[Call] = []
        self.waits_s: list[float] = []
        self.service = service or StandIn()
        self.flow = Flow("rm:8080", clock=lambda: self.now_s, draw=lambda: 0.0, **settings)

    def play(self, steps: Any, server: Callable[[Call], Outcome] | None = None) -> Any:
        outcomes = None
        while True:
            try:
                step = steps.send(outcomes)
            except StopIteration as done:
                return done.value
            if isinstance(step, Wait):
                self.waits_s.append(step.seconds)
                self.now_s += step.seconds
                outcomes = None
                continue
            assert isinstance(step, Send)
            outcomes = [self._one(call, server or self.serve) for call in step.calls]
            self.now_s += 1

    def _one(self, call: Call, server: Callable[[Call], Outcome]) -> Outcome:
        self.calls.append(call)
        try:
            return server(call)
        except TureenError as error:
            return error

    def serve(self, call: Call) -> Outcome:
        if call.operation == "models":
            return self.service.models()
        return getattr(self.service, call.operation)(call.payload)

    def scored(self) -> list[list[tuple[str, ...]]]:
        """The responses of each sample of each scoring call."""
        return [
            [sample.responses for sample in call.payload.samples]
            for call in self.calls
            if call.operation == "score"
        ]


def request(*samples: tuple[str, ...], **options: Any) -> ScoreRequest:
    return ScoreRequest(samples=tuple(Sample(prompt="p", responses=s) for s in samples), **options)


def rewards(response: ScoreResponse) -> list[list[float]]:
    return [[score.reward for score in result.scores or ()] for result in response.results]


class TestSplitting:
    def test_parts_in_parallel_and_rewards_in_order(self):
        theatre = Theatre(max_client_batch_size=2)
        asked = request(("a", "bb", "ccc"), ("dddd",), ("eeeee", "ffffff"))
        response = theatre.play(theatre.flow.score(asked))
        assert rewards(response) == [[1, 2, 3], [4], [5, 6]]
        assert theatre.scored() == [
            [("a", "bb")],
            [("ccc",), ("dddd",)],
            [("eeeee", "ffffff")],
        ]
        assert theatre.now_s == 101  # one round

    def test_options_travel_with_every_part(self):
        theatre = Theatre(max_client_batch_size=1)
        theatre.play(theatre.flow.score(request(("a",), ("b",), penalty=0.0, heads=("length",))))
        assert [(c.payload.penalty, c.payload.heads) for c in theatre.calls] == [
            (0.0, ("length",))
        ] * 2

    def test_limits_are_asked_once(self):
        theatre = Theatre(StandIn(limits=limits(max_client_batch_size=2)))
        for _ in range(2):
            theatre.play(theatre.flow.score(request(("a", "bb", "ccc"))))
        assert [call.operation for call in theatre.calls] == ["models"] + ["score"] * 4

    def test_limits_are_not_asked_for_one_response(self):
        theatre = Theatre()
        theatre.play(theatre.flow.score(request(("a",))))
        assert [call.operation for call in theatre.calls] == ["score"]

    def test_the_byte_limit_of_the_server(self):
        theatre = Theatre(StandIn(limits=limits(max_body_bytes=10_000)))
        response = theatre.play(theatre.flow.score(request(("a" * 5000, "b" * 5001))))
        assert rewards(response) == [[5000, 5001]]
        assert [len(call) for call in theatre.scored()] == [1, 1]

    def test_limits_are_forgotten_with_the_server(self):
        """After a restart another limit may hold; it is asked for again."""
        theatre = Theatre(StandIn(script=[ServiceUnreachable("refused")]))
        theatre.play(theatre.flow.score(request(("a", "b"))))
        theatre.service.limits = limits(max_client_batch_size=1)
        theatre.play(theatre.flow.score(request(("a", "b"))))
        assert theatre.scored()[-2:] == [[("a",)], [("b",)]]

    def test_a_model_the_server_does_not_know_is_left_to_the_server(self):
        theatre = Theatre()
        with pytest.raises(UnknownModel):
            theatre.play(theatre.flow.score(request(("a", "b"), model="other")))
        assert len(theatre.scored()) == 1

    def test_nothing_to_score(self):
        with pytest.raises(InvalidRequest, match="samples is empty"):
            Theatre().play(Theatre().flow.score(request()))


class TestRetries:
    def test_the_hint_of_the_server_is_waited_for(self):
        theatre = Theatre(StandIn(script=[Overloaded("busy", retry_after_s=4.0)]))
        assert rewards(theatre.play(theatre.flow.score(request(("a",))))) == [[1]]
        assert theatre.waits_s == [4.0]

    def test_without_a_hint_the_pauses_double(self):
        """Draw 0 is the lower half: 0.5 · (1, 2, 4, 8, 8) s at a backoff of 1 s and at most 8 s."""
        retry = Retry(max_retries=9, backoff_s=1.0, max_backoff_s=8.0)
        theatre = Theatre(StandIn(script=[BackendFailure("hiccup")] * 5), retry=retry)
        theatre.play(theatre.flow.score(request(("a",))))
        assert theatre.waits_s == [0.5, 1.0, 2.0, 4.0, 4.0]

    @pytest.mark.parametrize(
        ("draw", "pauses"), [(0.0, (0.5, 2.0)), (0.5, (0.75, 2.5)), (0.999, (0.9995, 2.999))]
    )
    def test_jitter(self, draw, pauses):
        retry = Retry(backoff_s=1.0)
        assert (retry.pause_s(0, None, draw), retry.pause_s(0, 2.0, draw)) == pytest.approx(pauses)

    def test_only_the_failed_part_is_asked_again(self):
        theatre = Theatre(StandIn(script=[Overloaded("busy")]), max_client_batch_size=1)
        assert rewards(theatre.play(theatre.flow.score(request(("a",), ("bb",))))) == [[1], [2]]
        assert theatre.scored() == [[("a",)], [("bb",)], [("a",)]]

    def test_only_the_failed_sample_is_asked_again(self):
        theatre = Theatre(max_client_batch_size=9)

        def server(call):
            response = theatre.serve(call)
            if len(theatre.scored()) > 1:
                return response
            first, second = response.results
            busy = replace(first, scores=None, error=BackendFailure("hiccup").info())
            return replace(response, results=(busy, second))

        response = theatre.play(theatre.flow.score(request(("a",), ("bb",))), server)
        assert rewards(response) == [[1], [2]]
        assert theatre.scored() == [[("a",), ("bb",)], [("a",)]]

    def test_what_will_not_change_is_not_asked_again(self):
        theatre = Theatre(StandIn(script=[InputTooLong("long", got=9, limit=8)]))
        with pytest.raises(InputTooLong) as e:
            theatre.play(theatre.flow.score(request(("a",))))
        assert (len(theatre.calls), e.value.got, str(e.value)) == (1, 9, "long")

    def test_attempts_that_bring_something_new_do_not_count(self):
        """Three calls a round, two refused, then one: five retries would be too many for max_retries 1."""
        busy = Overloaded("busy")

        def fine(service: StandIn) -> None:
            pass

        script = [fine, busy, busy, fine, busy]
        theatre = Theatre(
            StandIn(script=script), max_client_batch_size=1, retry=Retry(max_retries=1)
        )
        response = theatre.play(theatre.flow.score(request(("a",), ("bb",), ("ccc",))))
        assert rewards(response) == [[1], [2], [3]]

    def test_no_retries(self):
        theatre = Theatre(StandIn(script=[Overloaded("busy")]), retry=Retry(max_retries=0))
        with pytest.raises(Overloaded, match=r"busy \(from rm:8080, 1 attempt over 1.0 s; no rew"):
            theatre.play(theatre.flow.score(request(("a",))))

    def test_the_same_policy_for_every_question(self):
        theatre = Theatre()
        failures = [Overloaded("busy", retry_after_s=3.0)]

        def server(call):
            if failures:
                raise failures.pop()
            return theatre.serve(call)

        asked = RankRequest(prompt="p", responses=("a", "bb"))
        assert theatre.play(theatre.flow.rank(asked), server).ranking == (1, 0)
        assert theatre.waits_s == [3.0]


class TestBudget:
    def test_every_call_is_given_what_is_left(self):
        """Ten seconds, one for each call, four waited: 10, 10 − 1 − 4 = 5."""
        theatre = Theatre(StandIn(script=[Overloaded("busy", retry_after_s=4.0)]), timeout_s=10.0)
        theatre.play(theatre.flow.score(request(("a",))))
        assert [call.timeout_s for call in theatre.calls] == [10.0, 5.0]

    def test_a_hint_beyond_the_budget_is_not_waited_for(self):
        theatre = Theatre(StandIn(script=[Overloaded("busy", retry_after_s=9.5)]), timeout_s=10.0)
        with pytest.raises(Overloaded) as e:
            theatre.play(theatre.flow.score(request(("a",))))
        assert (theatre.waits_s, e.value.retry_after_s) == ([], 9.5)

    def test_nobody_answers(self):
        theatre = Theatre(
            StandIn(script=[ServiceUnreachable("connection refused")] * 99),
            timeout_s=30.0,
            retry=Retry(max_retries=4, backoff_s=2.0, max_backoff_s=8.0),
        )
        with pytest.raises(ServiceUnreachable) as e:
            theatre.play(theatre.flow.score(request(("a",))))
        assert theatre.waits_s == [1.0, 2.0, 4.0, 4.0]
        assert str(e.value) == (
            "rm:8080 did not answer 5 attempts over 16.0 s (last: connection refused). No reward "
            "was substituted. Start the service with 'tureen serve', or raise timeout_s (30) or "
            "Retry.max_retries (4)."
        )

    def test_what_asks_for_no_reward_speaks_of_none(self):
        for failure in (ServiceUnreachable("refused"), Overloaded("busy")):
            theatre = Theatre(retry=Retry(max_retries=0))
            with pytest.raises(type(failure)) as e:
                theatre.play(theatre.flow.soups(None), lambda call, failure=failure: failure)
            assert "rm:8080" in str(e.value)
            assert "reward" not in str(e.value)

    def test_time_runs_out(self):
        theatre = Theatre(
            StandIn(script=[DeadlineExceeded("too slow")] * 99),
            timeout_s=3.0,
            retry=Retry(max_retries=99, backoff_s=1.0, max_backoff_s=1.0),
        )
        with pytest.raises(DeadlineExceeded, match=r"2 attempts over 2\.5 s"):
            theatre.play(theatre.flow.score(request(("a",))))

    def test_neighbours_of_what_failed_to_the_end_are_kept(self):
        theatre = Theatre(max_client_batch_size=1, retry=Retry(max_retries=2))

        def server(call):
            if call.payload.samples[0].responses == ("a",):
                raise Overloaded("busy", retry_after_s=1.0)
            return theatre.serve(call)

        response = theatre.play(theatre.flow.score(request(("a",), ("bb",))), server)
        assert rewards(response) == [[], [2]]
        assert response.results[0].error == Overloaded("busy", retry_after_s=1.0).info()

    def test_no_neighbours_are_kept_when_the_service_has_gone(self):
        theatre = Theatre(max_client_batch_size=1, retry=Retry(max_retries=0))

        def server(call):
            if call.payload.samples[0].responses == ("a",):
                raise ServiceUnreachable("connection reset")
            return theatre.serve(call)

        with pytest.raises(ServiceUnreachable, match="connection reset"):
            theatre.play(theatre.flow.score(request(("a",), ("bb",))), server)


class TestErrorsOfSamples:
    def test_a_sample_keeps_its_error_and_its_neighbours_their_scores(self):
        theatre = Theatre()
        response = theatre.play(theatre.flow.score(request(("a", ""), ("bb",))))
        assert rewards(response) == [[], [2]]
        assert response.results[0].error is not None
        assert response.results[0].error.field == "responses[1]"

    def test_one_piece_fails_the_sample(self):
        """Responses 0..4, two a call: response 3 stands as 1 in the second call."""
        theatre = Theatre(max_client_batch_size=2)
        response = theatre.play(theatre.flow.score(request(("a", "b", "c", "", "e"), ("ff",))))
        assert rewards(response) == [[], [2]]
        assert response.results[0].error is not None
        assert response.results[0].error.field == "responses[3]"
        assert response.results[0].error.message == "responses[3] is empty."

    def test_a_refused_part_is_taken_apart(self):
        """The door answers a part without any score with its first error alone: each is asked for its own."""
        theatre = Theatre(max_client_batch_size=2)

        def server(call):
            response = theatre.serve(call)
            if all(result.error for result in response.results):
                return InvalidRequest(response.results[0].error.message, field="responses[0]")
            return response

        asked = request(("",), ("x", ""), ("a",), ("bb",))
        response = theatre.play(theatre.flow.score(asked), server)
        assert rewards(response) == [[], [], [1], [2]]

    def test_the_first_error_when_all_fail(self):
        theatre = Theatre()
        with pytest.raises(InvalidRequest, match=r"responses\[1\] is empty"):
            theatre.play(theatre.flow.score(request(("a", ""), ("",))))


class TestOneFingerprint:
    def swap(self, service: StandIn) -> None:
        service.fingerprint = "sha256:two"

    def stay(self, service: StandIn) -> None:
        pass

    def test_a_swap_between_parts(self):
        """The second of three parts meets new weights: the first is asked again, the third is not."""
        theatre = Theatre(StandIn(script=[self.stay, self.swap]), max_client_batch_size=1)
        response = theatre.play(theatre.flow.score(request(("a",), ("bb",), ("ccc",))))
        assert response.fingerprint == "sha256:two"
        assert rewards(response) == [[1], [2], [3]]
        assert theatre.scored() == [[("a",)], [("bb",)], [("ccc",)], [("a",)]]

    def test_a_swap_during_a_retry(self):
        theatre = Theatre(
            StandIn(script=[self.stay, Overloaded("busy"), self.swap]), max_client_batch_size=1
        )
        response = theatre.play(theatre.flow.score(request(("a",), ("bb",))))
        assert response.fingerprint == "sha256:two"
        assert theatre.scored() == [[("a",)], [("bb",)], [("bb",)], [("a",)]]

    def test_replicas_that_never_agree(self):
        theatre = Theatre(max_client_batch_size=1, retry=Retry(max_retries=2))

        def server(call):  # the first sample always meets 1, the second always 2
            one = call.payload.samples[0].responses == ("a",)
            return replace(theatre.serve(call), fingerprint="sha256:" + ("1" if one else "2"))

        with pytest.raises(BackendFailure, match=r"different weights \(sha256:1, sha256:2\)"):
            theatre.play(theatre.flow.score(request(("a",), ("bb",))), server)


class TestModels:
    def test_the_default_model(self):
        theatre = Theatre()
        assert theatre.play(theatre.flow.model(None)).id == "length"
        assert [call.operation for call in theatre.calls] == ["models"]

    def test_a_server_that_does_not_describe_its_default(self):
        theatre = Theatre()
        with pytest.raises(BackendFailure, match="'ghost'"):
            theatre.play(
                theatre.flow.model(None), lambda call: ModelList(default_model="ghost", models=())
            )


@pytest.mark.parametrize(
    "bad", [{"timeout_s": 0}, {"timeout_s": float("nan")}, {"max_client_batch_size": 0}]
)
def test_settings_that_make_no_sense(bad):
    with pytest.raises(InvalidRequest):
        Flow("rm:8080", **bad)
