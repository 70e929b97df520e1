"""ScoreStream: answers by id as they are done, errors as results, flow control in place of a limit."""

import queue

import grpc
import grpc.aio
import pytest
from doors import OpenDoors, RawGrpc, open_doors, refusal_of
from engine_fakes import wait_until

from tureen.transports.grpc import IN_FLIGHT_PER_STREAM, RewardService
from tureen.v1 import reward_pb2 as pb


def message(*ids: str | None, response: str = "4", **options) -> bytes:
    samples = [pb.Sample(id=id_, prompt="What?", responses=[response]) for id_ in ids]
    return pb.ScoreRequest(samples=samples, **options).SerializeToString()


def stream(raw: RawGrpc, *messages: bytes) -> list[pb.ScoreResponse]:
    answers = raw.method("ScoreStream", stream=True)(iter(messages), timeout=20)
    return [pb.ScoreResponse.FromString(answer) for answer in answers]


def test_every_message_is_answered_by_the_ids_of_its_samples(raw: RawGrpc):
    answers = stream(raw, *(message(f"a{n}", f"b{n}", response=f"{n}") for n in range(600)))
    ids = sorted(tuple(result.id for result in answer.results) for answer in answers)
    assert ids == sorted((f"a{n}", f"b{n}") for n in range(600))
    assert all(len(result.scores) == 1 for answer in answers for result in answer.results)


def test_errors_stand_in_the_results_and_the_stream_goes_on(raw: RawGrpc, doors: OpenDoors):
    before = doors.counts()
    answers = stream(
        raw,
        b"\xff\xff",
        message("empty", response=""),
        message("head", heads=["factualty"]),
        message("model", model="stab"),
        pb.ScoreRequest().SerializeToString(),
        message("big", response="a" * 5_000_000),
        message("good"),
    )
    results = {result.id: result for answer in answers for result in answer.results if result.id}
    assert {id_: result.error.code for id_, result in results.items()} == {
        "empty": "invalid_request",
        "head": "unknown_head",
        "model": "unknown_model",
        "good": "",
    }
    assert len(results["good"].scores) == 1
    nameless = [r.error.code for a in answers for r in a.results if not r.id]
    assert sorted(nameless) == ["invalid_request", "invalid_request", "payload_too_large"]
    assert all(len(result.scores) == 0 for id_, result in results.items() if id_ != "good")
    requests, errors = doors.counts().since(before)
    assert requests == {
        ("grpc", "stream", "ok"): 1,
        ("grpc", "stream", "invalid_request"): 3,
        ("grpc", "stream", "unknown_head"): 1,
        ("grpc", "stream", "unknown_model"): 1,
        ("grpc", "stream", "payload_too_large"): 1,
    }
    assert errors == {
        "invalid_request": 3,
        "unknown_head": 1,
        "unknown_model": 1,
        "payload_too_large": 1,
    }


def test_a_sample_without_an_id_is_refused_in_its_place(raw: RawGrpc):
    [answer] = stream(raw, message("a", None, "c"))
    assert [result.id for result in answer.results] == ["a", "", "c"]
    assert [len(result.scores) for result in answer.results] == [1, 0, 1]
    assert answer.results[1].error.code == "invalid_request"
    assert answer.results[1].error.field == "samples[1].id"


def test_answers_overtake_each_other_when_they_are_done():
    """The first message waits for a device that is held back; one that needs no device is answered meanwhile."""
    with open_doors() as doors:
        raw = RawGrpc(doors.target)
        doors.gate.hold()
        sent: queue.Queue[bytes | None] = queue.Queue()
        answers = raw.method("ScoreStream", stream=True)(iter(sent.get, None), timeout=20)
        sent.put(message("slow"))
        wait_until(lambda: doors.gate.rows == 1, "the first message on the device")
        sent.put(message("fast", heads=["factualty"]))
        assert pb.ScoreResponse.FromString(next(answers)).results[0].id == "fast"
        doors.gate.open()
        assert pb.ScoreResponse.FromString(next(answers)).results[0].id == "slow"
        sent.put(None)
        assert list(answers) == []
        raw.channel.close()


def test_a_stream_reads_no_further_ahead_than_its_bound():
    """More would pile up in the server; the rest waits in the caller and is answered all the same."""
    with open_doors(max_concurrent_requests=10_000) as doors:
        raw = RawGrpc(doors.target)
        doors.gate.hold()
        total = 3 * IN_FLIGHT_PER_STREAM
        answers = raw.method("ScoreStream", stream=True)(
            iter([message(f"{n}", response=f"response {n}") for n in range(total)]), timeout=20
        )
        wait_until(lambda: doors.in_flight() == IN_FLIGHT_PER_STREAM, "the bound to be reached")
        doors.gate.open()
        most, seen = 0, 0
        for _ in answers:
            seen += 1
            if seen % 20 == 1:  # all metrics are rendered to look at one
                most = max(most, int(doors.in_flight()))
        assert (seen, most <= IN_FLIGHT_PER_STREAM) == (total, True)
        raw.channel.close()


def test_the_key_is_asked_for_once_at_the_start():
    with open_doors(api_key=("secret",)) as doors:
        raw = RawGrpc(doors.target)
        with pytest.raises(grpc.RpcError) as caught:
            stream(raw, message("a"))
        assert refusal_of(caught.value).code == "unauthenticated"
        answers = raw.method("ScoreStream", stream=True)(
            iter([message("a")]), metadata=[("authorization", "Bearer secret")]
        )
        assert len(list(answers)) == 1
        assert doors.counts().requests == {
            ("grpc", "stream", "unauthenticated"): 1,
            ("grpc", "stream", "ok"): 1,
        }
        raw.channel.close()


def test_an_answer_that_nobody_takes_any_more_is_no_failure(doors: OpenDoors):
    """A caller can leave while an answer is written: gRPC would log a traceback for each."""

    class Left:
        def invocation_metadata(self):
            return ()

        def set_trailing_metadata(self, metadata):
            pass

        def time_remaining(self):
            return None

        async def write(self, answer: bytes):
            raise grpc.aio.InternalError("the call is over")

    async def messages():
        yield message("a")
        yield message("b")

    doors.call(RewardService(doors.admission).score_stream(messages(), Left()))  # type: ignore[arg-type]
