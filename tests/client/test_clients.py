"""What holds for every client: HTTP and gRPC, for callers that wait and for callers that await."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import fields

import pytest
from client.conftest import DOORS
from model_info import limits

from tureen.client import (
    AsyncGrpcRewardClient,
    AsyncRewardClient,
    GrpcRewardClient,
    Retry,
    RewardClient,
)
from tureen.client.surface import Options
from tureen.contracts import Message, Sample, ScoreOptions, ScoreRequest
from tureen.errors import (
    BackendFailure,
    InvalidRequest,
    Overloaded,
    ServiceUnreachable,
    Unauthenticated,
    UnknownModel,
)

CLIENTS = [RewardClient, AsyncRewardClient, GrpcRewardClient, AsyncGrpcRewardClient]


def test_score(client, service):
    scores = client.score("2+2?", ["4", "four"], context=["sums"], offsets=[[(0, 1)], None])
    assert [score.reward for score in scores] == [1.0, 4.0]
    [request] = service.scored()
    assert request == ScoreRequest(
        samples=(
            Sample(
                prompt="2+2?",
                context=("sums",),
                responses=("4", "four"),
                offsets=(((0, 1),), None),
            ),
        )
    )


def test_messages_in_place_of_a_prompt(client, service):
    client.score([{"role": "system", "content": "s"}, Message(role="user", content="u")], ["r"])
    [sample] = service.scored()[0].samples
    assert (sample.prompt, [m.content for m in sample.messages]) == (None, ["s", "u"])


def test_options(client, service):
    client.score(
        "p",
        ["r"],
        model="length",
        heads=["length"],
        weights={"length": 0.0},
        aggregation="worst_case",
        penalty=0.0,
        uncertainty=True,
        segments=False,
        members=True,
        truncate="prompt",
    )
    [request] = service.scored()
    got = {field.name: getattr(request, field.name) for field in fields(ScoreOptions)}
    assert got == {
        "heads": ("length",),
        "weights": {"length": 0.0},
        "aggregation": "worst_case",
        "penalty": 0.0,
        "uncertainty": True,
        "segments": False,
        "members": True,
        "truncate": "prompt",
    }
    assert request.model == "length"


def test_split_and_merged_in_order(connect, service):
    service.limits = limits(max_client_batch_size=2)
    response = connect().score_samples(
        [
            Sample(id="a", prompt="p", responses=("x", "xx", "xxx")),
            Sample(prompt="p", responses=("xxxx",)),
        ]
    )
    assert [r.id for r in response.results] == ["a", None]
    assert [[s.reward for s in r.scores] for r in response.results] == [[1, 2, 3], [4]]
    assert sorted(service.sizes) == [[1, 1], [2]]
    assert (response.model, response.fingerprint, response.soup) == (
        "length",
        "sha256:one",
        "uniform:2",
    )


def test_one_fingerprint_although_the_soup_was_swapped_between_parts(connect, service):
    def swap(service):
        service.fingerprint = "sha256:two"

    service.script += [lambda service: None, lambda service: None, swap]
    response = connect(max_client_batch_size=1).score_samples(
        [Sample(prompt="p", responses=("x" * n,)) for n in (1, 2, 3)]
    )
    assert response.fingerprint == "sha256:two"
    assert [r.scores[0].reward for r in response.results] == [1, 2, 3]


def test_the_sample_s_error_is_raised(client):
    with pytest.raises(InvalidRequest, match=r"responses\[1\] is empty") as e:
        client.score("p", ["r", ""])
    assert (e.value.field, e.value.got, e.value.limit) == ("responses[1]", 0, 1)


def test_neighbours_of_a_failed_sample_are_kept(client):
    samples = [Sample(prompt="p", responses=(text,)) for text in ("", "x", "")]
    results = client.score_samples(samples).results
    assert [r.scores and r.scores[0].reward for r in results] == [None, 1.0, None]
    codes = [r.error and r.error.code for r in results]
    assert codes == ["invalid_request", None, "invalid_request"]


def test_a_hint_is_waited_for(connect, service):
    service.script.append(Overloaded("busy", retry_after_s=0.05))
    assert [s.reward for s in connect().score("p", ["r"])] == [1.0]
    assert len(service.scored()) == 2


def test_errors_are_those_of_the_table(connect, service):
    service.script.append(Overloaded("busy", field="samples", got=9, limit=8, retry_after_s=99.0))
    with pytest.raises(Overloaded, match=r"busy \(from .*, 1 attempt over") as e:
        connect(timeout_s=5.0).score("p", ["r"])
    assert (e.value.field, e.value.got, e.value.limit, e.value.retry_after_s) == (
        "samples",
        9,
        8,
        99.0,
    )


def test_attempts_are_bounded(connect, service):
    service.script += [BackendFailure("hiccup")] * 9
    with pytest.raises(BackendFailure, match=r"hiccup .*3 attempts"):
        connect(retry=Retry(max_retries=2, backoff_s=0.001)).score("p", ["r"])


def test_the_server_is_told_the_deadline_and_who_asks(connect, service):
    connect(timeout_s=7.0, api_key="k", priority="bulk").score("p", ["r"])
    assert service.deadlines_s[0] == pytest.approx(7.0, abs=0.5)
    headers = service.headers[0]
    assert (headers["authorization"], headers["x-priority"]) == ("Bearer k", "bulk")


def test_rank(client):
    response = client.rank("p", ["x", "xxx", "xx"], id="q")
    assert (response.id, response.ranking, response.rewards) == ("q", (1, 2, 0), (1.0, 3.0, 2.0))
    assert len(response.scores) == len(response.win_probability) == 3


def test_models(client, service):
    assert client.models() == service.models()
    assert client.model() == client.model("length") == service.info()


def test_health(client, service):
    assert (client.healthy(), client.ready()) == (True, True)
    service.ready = False
    assert (client.healthy(), client.ready()) == (True, False)


class TestStream:
    def samples(self, count):
        return [Sample(id=f"s{n % 2}", prompt="p", responses=("x" * n,)) for n in range(1, count)]

    def test_every_sample_once_with_its_index_and_its_own_id(self, connect, service):
        service.second_first = True
        streamed = list(connect().stream(self.samples(20), in_flight=4))
        assert sorted(index for index, _ in streamed) == list(range(19))
        for index, result in streamed:
            assert (result.id, result.scores[0].reward) == (f"s{(index + 1) % 2}", index + 1)

    def test_without_ids(self, client):
        samples = (Sample(prompt="p", responses=("x" * n,)) for n in range(1, 9))
        streamed = dict(client.stream(samples))
        assert [streamed[n].scores[0].reward for n in range(8)] == list(range(1, 9))
        assert {result.id for result in streamed.values()} == {None}

    def test_options(self, client, service):
        list(client.stream(self.samples(2), penalty=0.0, model="length"))
        assert (service.scored()[0].penalty, service.scored()[0].model) == (0.0, "length")

    def test_errors_stand_in_their_results(self, client):
        samples = [Sample(prompt="p", responses=(text,)) for text in ("x", "", "xxx")]
        streamed = dict(client.stream(samples))
        assert streamed[1].error.field == "responses[0]"
        assert [streamed[n].scores[0].reward for n in (0, 2)] == [1.0, 3.0]

    def test_what_passes_is_asked_again(self, client, service):
        service.script += [Overloaded("busy", retry_after_s=0.01), BackendFailure("hiccup")]
        streamed = dict(client.stream(self.samples(9)))
        assert [streamed[n].scores[0].reward for n in range(8)] == list(range(1, 9))

    def test_a_sample_with_more_responses_than_a_call_takes(self, connect, service):
        service.limits = limits(max_client_batch_size=2)
        [(index, result)] = connect().stream([Sample(prompt="p", responses=("x", "xx", "xxx"))])
        assert (index, [s.reward for s in result.scores]) == (0, [1.0, 2.0, 3.0])

    def test_what_would_meet_every_sample_is_raised(self, client, service):
        service.script += [Unauthenticated("no key")] * 99
        with pytest.raises(Unauthenticated):
            list(client.stream(self.samples(9)))

    def test_nothing(self, client):
        assert list(client.stream([])) == []

    def test_whose_weights_gave_a_result(self, client, service):
        """An answer names its weights; that of a sample that failed names none."""
        samples = [Sample(prompt="p", responses=(text,)) for text in ("x", "", "xxx")]
        answers = dict(client.stream_answers(samples))
        assert [answers[n].fingerprint for n in range(3)] == ["sha256:one", "", "sha256:one"]
        assert [answers[n].results for n in range(3)] == [
            (result,) for _, result in sorted(client.stream(samples))
        ]


class TestArguments:
    def test_one_string_is_no_list_of_responses(self, client):
        with pytest.raises(InvalidRequest, match="responses is one string"):
            client.score("p", "r")

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ((["p", "q"], ["r", "s"]), r"Several prompts are several samples: score_samples"),
            (([{"role": "user", "text": "p"}], ["r"]), r"nor the messages {role, content}"),
            ((None, ["r"]), r"prompt is neither one text nor the messages"),
            (("p", ["r", None]), r"responses\[1\] is of type NoneType; it must be a string"),
            (("p", 5), r"responses is 5; give a list of strings"),
        ],
    )
    def test_what_is_no_text_is_named(self, client, service, arguments, says):
        with pytest.raises(InvalidRequest, match=says):
            client.score(*arguments)
        assert service.calls == []

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"aggregation": "worstcase"}, "did you mean 'worst_case'"),
            ({"truncate": "left"}, "Known: context, never, prompt"),
            ({"heads": []}, "heads is empty"),
            ({"heads": "length"}, "heads is one string; give a list"),
            ({"weights": {}}, "weights is empty"),
            ({"weights": {"length": float("inf")}}, "weights holds a number that is not finite"),
            ({"penalty": float("nan")}, "penalty holds a number that is not finite"),
        ],
    )
    def test_options_that_make_no_sense(self, client, service, options, says):
        with pytest.raises(InvalidRequest, match=says):
            client.score("p", ["r"], **options)
        assert service.calls == []

    def test_an_unknown_option(self, client):
        with pytest.raises(TypeError, match="agregation"):
            client.score("p", ["r"], agregation="mean")

    def test_text_that_is_no_unicode(self, client):
        with pytest.raises(InvalidRequest, match="cannot be sent"):
            client.score("\ud800", ["r"])

    def test_an_unknown_model(self, client):
        with pytest.raises(UnknownModel) as e:
            client.score("p", ["r"], model="other")
        assert e.value.field == "model"

    def test_in_flight(self, client):
        with pytest.raises(InvalidRequest, match="in_flight is 0"):
            list(client.stream([], in_flight=0))


@pytest.mark.parametrize("key", ["schlüssel", "two words", "line\nbreak", " "])
def test_a_key_that_no_header_can_carry_is_refused_and_never_shown(connect, key):
    with pytest.raises(InvalidRequest, match="api_key is an unusable key") as refused:
        connect(api_key=key)
    assert key.strip() == "" or key not in str(refused.value)


def test_a_key_as_a_file_holds_it(connect, service):
    connect(api_key="k\n").score("p", ["r"])
    assert service.headers[0]["authorization"] == "Bearer k"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"timeout_s": "5"}, "timeout_s is '5'; give a positive number"),
        ({"timeout_s": 1e12}, r"timeout_s is 1000000000000.0; .* at most 86400"),
        ({"retry": 3}, r"retry is 3; give Retry\(max_retries=…\)"),
    ],
)
def test_settings_of_another_type(connect, settings, says):
    with pytest.raises(InvalidRequest, match=says):
        connect(**settings)


def test_an_unknown_priority(connect):
    with pytest.raises(InvalidRequest, match="did you mean 'bulk'"):
        connect(priority="bulky")


def test_the_four_surfaces_are_one():

    def surface(kind):
        return {
            name: [
                (p.name, p.kind, p.default) for p in inspect.signature(member).parameters.values()
            ]
            for name in dir(kind)
            if not name.startswith("_") and callable(member := getattr(kind, name))
        }

    first, *others = map(surface, CLIENTS)
    assert set(first) == {
        *("close", "healthy", "model", "models", "rank", "ready", "score", "score_samples"),
        *("send", "stream", "stream_answers"),
        *("soups", "create_soup", "activate_soup", "shadow_soup", "rollback_soup"),
    }
    assert all(other == first for other in others)
    assert len({inspect.signature(kind) for kind in CLIENTS}) == 1


def test_the_options_are_those_of_the_contract():
    names = {field.name for field in fields(ScoreOptions)}
    assert set(Options.__annotations__) == names | {"model"}


def test_a_closed_client_says_that_it_is(connect):
    client = connect(max_client_batch_size=8)  # so that a stream need not ask for it
    assert client.score("p", ["r"])[0].reward == 1.0
    client.close()
    samples = [Sample(prompt="p", responses=("r",))]
    for ask in (
        lambda: client.score("p", ["r"]),
        lambda: list(client.stream(samples)),
        client.models,
        client.soups,
        client.healthy,
        client.ready,
    ):
        with pytest.raises(InvalidRequest, match="is closed; ask inside its `with` block"):
            ask()


def test_nobody_is_there(door):
    """Port 1 is nobody's."""
    kind = CLIENTS[DOORS.index(door)]
    address = "http://127.0.0.1:1" if door.startswith("http") else "127.0.0.1:1"
    client = kind(address, retry=Retry(max_retries=1, backoff_s=0.001))

    def score() -> None:
        answer = client.score("p", ["r"])
        if door.endswith("async"):
            asyncio.run(answer)

    with pytest.raises(ServiceUnreachable, match=r"2 attempts .*No reward was substituted"):
        score()
