"""One engine, five ways to ask it, the same numbers: in process, HTTP, gRPC, streamed, and split by the client."""

import dataclasses
from typing import Any

import pytest
from doors import open_doors

from tureen import Aggregation, Message, RankRequest, Sample, ScoreRequest, Truncate
from tureen.engine.loading import load_model
from tureen.errors import TureenError, failure_of

TOLERANCE = 1e-5  # float32

QUESTION = Sample(
    id="q1",
    prompt="Who painted the Night Watch, and when?",
    context=("The Night Watch is a 1642 painting by Rembrandt van Rijn.", "It is in Amsterdam."),
    responses=("Rembrandt painted it in 1642.", "Vermeer painted it. I like tulips, a lot."),
)
OFFSETS = (((0, 9), (9, 17), (17, 20), (20, 29)), None)
CHAT = Sample(
    messages=(
        Message(role="user", content="What is it?"),
        Message(role="assistant", content="What is what?"),
        Message(role="user", content="The red thing."),
    ),
    responses=("A tulip.", "No idea; ask somebody else, please, who knows."),
)
UNICODE = Sample(id="京", prompt="Où?", responses=("Ici. 👩‍👩‍👧 là-bas.", "東京です。はい。"))
BAD = Sample(id="bad", prompt="a", responses=("fine", " "))

REQUESTS = {
    "a sample": ScoreRequest(samples=(QUESTION,)),
    "many samples": ScoreRequest(samples=(QUESTION, CHAT, UNICODE, QUESTION)),
    "token offsets": ScoreRequest(samples=(dataclasses.replace(QUESTION, offsets=OFFSETS),)),
    "some heads": ScoreRequest(samples=(QUESTION,), heads=("relevance", "factuality")),
    "weights": ScoreRequest(samples=(QUESTION,), weights={"factuality": 2.0, "preference": -0.5}),
    "a weight of zero": ScoreRequest(samples=(QUESTION,), weights={"factuality": 0.0}),
    "worst case": ScoreRequest(samples=(QUESTION, CHAT), aggregation=Aggregation.WORST_CASE),
    "uncertainty weighted": ScoreRequest(
        samples=(QUESTION, CHAT), aggregation=Aggregation.UNCERTAINTY_WEIGHTED, penalty=1.5
    ),
    "no penalty": ScoreRequest(
        samples=(QUESTION,), aggregation=Aggregation.UNCERTAINTY_WEIGHTED, penalty=0.0
    ),
    "everything": ScoreRequest(samples=(QUESTION,), uncertainty=True, members=True),
    "no segments": ScoreRequest(samples=(QUESTION,), segments=False),
    "cut context": ScoreRequest(
        samples=(dataclasses.replace(QUESTION, context=("far too long " * 4000,)),),
        truncate=Truncate.CONTEXT,
    ),
    "one bad sample": ScoreRequest(samples=(BAD, QUESTION)),
}


def assert_same(got: Any, expected: Any, path: str = "") -> None:
    """Equal, numbers within the tolerance, times aside; says where it is not."""
    if dataclasses.is_dataclass(expected):
        assert type(got) is type(expected), path
        for field in dataclasses.fields(expected):
            if field.name != "timings":
                place = f"{path}.{field.name}"
                assert_same(getattr(got, field.name), getattr(expected, field.name), place)
    elif isinstance(expected, dict):
        assert got.keys() == expected.keys(), path
        for key, value in expected.items():
            assert_same(got[key], value, f"{path}[{key!r}]")
    elif isinstance(expected, tuple):
        assert len(got) == len(expected), path
        for index, (one, other) in enumerate(zip(got, expected, strict=True)):
            assert_same(one, other, f"{path}[{index}]")
    elif isinstance(expected, float):
        assert got == pytest.approx(expected, abs=TOLERANCE), path
    else:
        assert got == expected, path


@pytest.mark.parametrize("way", ["http", "grpc", "split", "stream"])
@pytest.mark.parametrize("name", REQUESTS)
def test_every_door_gives_the_numbers_of_the_engine(served, way: str, name: str):
    request = REQUESTS[name]
    assert_same(served.ask(way)(request), served.in_process(request))


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_every_door_ranks_alike(served, door: str):
    request = RankRequest(
        prompt=QUESTION.prompt, context=QUESTION.context, responses=QUESTION.responses, id="r"
    )
    expected = served.doors.call(served.doors.scorer.rank(request))
    client = getattr(served, door)
    got = client.rank(QUESTION.prompt, QUESTION.responses, context=QUESTION.context, id=request.id)
    assert_same(got, expected)


@pytest.mark.parametrize("way", ["http", "grpc", "split"])
@pytest.mark.parametrize(
    "request_",
    [
        ScoreRequest(samples=(BAD,)),
        ScoreRequest(samples=(QUESTION,), heads=("factualty",)),
        ScoreRequest(samples=(QUESTION,), model="nobody"),
        ScoreRequest(samples=(QUESTION,), weights={"relevance": 1.0}, heads=("factuality",)),
    ],
    ids=["bad sample", "unknown head", "unknown model", "weight of a head left out"],
)
def test_every_door_raises_the_same_error(served, way: str, request_: ScoreRequest):
    with pytest.raises(TureenError) as caught:
        served.ask(way)(request_)
    expected = failure_in_process(served, request_)
    assert type(caught.value) is type(expected)
    assert caught.value.info() == expected.info()


def failure_in_process(served, request: ScoreRequest) -> TureenError:
    try:
        failure = failure_of(served.in_process(request))
    except TureenError as error:
        return error
    assert failure is not None
    return failure


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_every_door_describes_the_same_model(served, door: str):
    assert getattr(served, door).models() == served.doors.scorer.models()
    assert getattr(served, door).model() == served.doors.scorer.model()


def test_torch_and_onnx_agree(pico_soup):
    """The invariant torch ≡ onnx on whole rewards; the export's own parity is of raw values."""
    request = REQUESTS["everything"]
    answers = []
    for backend in ("torch", "onnx"):
        model = load_model(pico_soup, backend=backend, device="cpu", threads=1)
        with open_doors(model) as doors:
            answers.append(doors.call(doors.scorer.score(request)))
    torch_, onnx = answers
    assert_same(onnx, torch_)
