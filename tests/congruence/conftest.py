"""Three models behind one server each, and every way to ask it."""

import dataclasses
import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pico
import pytest
from doors import OpenDoors, open_doors

from tureen import RewardClient, SampleResult, ScoreRequest, ScoreResponse
from tureen.client import GrpcRewardClient
from tureen.contracts import ScoreOptions
from tureen.engine.loading import load_model
from tureen.engine.remote import Answer, Asked, RemoteScorer, answer
from tureen.engine.scorer import Scorer
from tureen.engine.scoring import Scoring
from tureen.engine.served import ServedModel
from tureen.model.export_onnx import export
from tureen.model.soup import make_soup

Ask = Callable[[ScoreRequest], ScoreResponse]


@dataclass
class Served:
    doors: OpenDoors
    http: RewardClient
    grpc: GrpcRewardClient
    split: RewardClient  # sends every response in a request of its own

    def ask(self, way: str) -> Ask:
        return {
            "in process": self.in_process,
            "http": self.http.send,
            "grpc": self.grpc.send,
            "split": self.split.send,
            "stream": self.stream,
        }[way]

    def in_process(self, request: ScoreRequest) -> ScoreResponse:
        return self.doors.call(self.doors.scorer.score(request))

    def stream(self, request: ScoreRequest) -> ScoreResponse:
        """One sample a message; what came back is put in order again."""
        options: dict = {
            field.name: getattr(request, field.name) for field in dataclasses.fields(ScoreOptions)
        }
        found: dict[int, SampleResult] = dict(
            self.grpc.stream(request.samples, model=request.model, **options)
        )
        info = self.grpc.model()
        return ScoreResponse(
            model=info.id,
            fingerprint=info.fingerprint,
            soup=info.soup,
            results=tuple(found[index] for index in range(len(request.samples))),
        )


WAYS = ("in process", "http", "grpc", "split", "stream")


@pytest.fixture(scope="session")
def pico_soup(tmp_path_factory: pytest.TempPathFactory):
    """Three pico members averaged, with an ONNX export beside the weights."""
    directory = tmp_path_factory.mktemp("pico")
    soup = directory / "soup"
    make_soup(pico.bert_members(directory / "members"), None, soup, "uniform")
    export(soup)
    return soup


@pytest.fixture(scope="session", params=["stub", "torch", "onnx", "elsewhere"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    behind: Callable[[Scorer], Scoring] = elsewhere if request.param == "elsewhere" else here
    if request.param in ("stub", "elsewhere"):
        model = load_model("stub")
    else:
        soup = request.getfixturevalue("pico_soup")
        model = load_model(soup, backend=request.param, device="cpu", threads=1)
    with serve(model, behind) as running:
        yield running


def here(scorer: Scorer) -> Scoring:
    """In this process."""
    return scorer


def elsewhere(scorer: Scorer) -> Scoring:
    """As if the engine were in another process: all that goes there and back is written down."""

    async def ask(asked: Asked) -> Answer:
        made = await answer(scorer, pickle.loads(pickle.dumps(asked)))
        return pickle.loads(pickle.dumps(made))

    remote = RemoteScorer(ask, scorer.limits, scorer.metrics)
    remote.learn(scorer.models(), None)
    return remote


@contextmanager
def serve(model: ServedModel, behind: Callable[[Scorer], Scoring] = here) -> Iterator[Served]:
    with ExitStack() as stack:
        doors = stack.enter_context(open_doors(model, behind=behind, cache_bytes=0))
        yield Served(
            doors,
            http=stack.enter_context(RewardClient(doors.url)),
            grpc=stack.enter_context(GrpcRewardClient(doors.target)),
            split=stack.enter_context(RewardClient(doors.url, max_client_batch_size=1)),
        )


@pytest.fixture(params=WAYS)
def ask(request: pytest.FixtureRequest, served: Served) -> Ask:
    return served.ask(request.param)
