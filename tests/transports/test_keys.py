"""Keys: what a file of them may say, whom they let in, how much and in which lane."""

import hashlib
import io
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from doors import OpenDoors, RawGrpc, http_refusal, open_doors
from engine_fakes import wait_until

from tureen import cli, config
from tureen.client import GrpcRewardClient, Retry, RewardClient
from tureen.config import Config
from tureen.contracts import Priority
from tureen.engine.quota import Quota
from tureen.errors import Forbidden, QuotaExceeded, Unauthenticated
from tureen.transports.keys import Keys
from tureen.usage import UsageError
from tureen.v1 import reward_pb2 as pb

BODY = {"samples": [{"prompt": "a", "responses": ["b"]}]}
SECRETS = ("trainer-secret-0", "console-secret-1", "admin-secret-2", "plain-secret-3")
TRAINER, CONSOLE, ADMIN, PLAIN = SECRETS
NEVER = Retry(max_retries=0)


def digest(key: str) -> str:
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def keys(tmp_path: Path, text: str, **settings) -> Keys:
    file = tmp_path / "api.keys"
    file.write_text(text, encoding="utf-8")
    return Keys(Config(api_key_file=file, **settings))


def test_keys_come_from_flags_and_file_hashed_or_not(tmp_path: Path):
    text = f"# ours\n{digest('three')} name=trainer priority=bulk quota=60 # of Ada\n\n four\n"
    found = keys(tmp_path, text, api_key=("one", digest("two")))
    names = [found.scorer(f"Bearer {key}") for key in ("one", "two", "three", "four")]
    assert [key.name for key in names if key] == ["key-1", "key-2", "trainer", "key-3"]
    trainer = names[2]
    assert trainer is not None
    assert (trainer.lane, trainer.admin) == (Priority.BULK, False)
    assert trainer.quota is not None
    assert trainer.quota.per_minute == 60
    for wrong in ("Three", digest("three"), "", "thre", "threee"):
        with pytest.raises(Unauthenticated):
            found.scorer(f"Bearer {wrong}")


def test_an_admin_key_scores_and_a_key_does_not_administer():
    found = Keys(Config(api_key=("k",), admin_key=("a",)))
    admin = found.admin("Bearer a")
    assert (admin.name, admin.admin) == ("admin-1", True)
    assert found.scorer("Bearer a") is admin
    with pytest.raises(Forbidden, match="Send an admin key"):
        found.admin("Bearer k")
    with pytest.raises(Unauthenticated):
        found.admin("Bearer x")
    with pytest.raises(Unauthenticated):
        found.admin(None)
    with pytest.raises(Forbidden, match="--admin-key"):
        Keys(Config(api_key=("k",))).admin("Bearer k")


def test_admin_keys_alone_leave_scoring_open():
    found = Keys(Config(admin_key=("a",)))
    assert found.open_to_strangers
    assert found.scorer(None) is None
    assert found.scorer("Bearer whatever-a-trainer-sends") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("two words\n", "line 1: it holds an unusable key"),
        ("k\nschlüssel\n", "line 2: it holds an unusable key"),
        ("k nmae=x\n", "did you mean 'name'?"),
        ("k name=a/b\n", "letters, digits"),
        ("k priority=slow\n", "it can be interactive or bulk"),
        ("k quota=0\n", "1 at least"),
        ("k quota=1.5\n", "1 at least"),
        ("sha256:12\n", "64 lower-case hexadecimal digits"),
        ("k name=a\nl name=a\n", "two keys have the same name (a)"),
        ("k name=a\nk name=b\n", "two keys have the same key (b)"),
        ("# nothing\n", "holds no key"),
    ],
)
def test_a_wrong_line_is_told_and_never_shown(tmp_path: Path, text: str, says: str):
    with pytest.raises(UsageError, match=re.escape(says)) as caught:
        keys(tmp_path, text)
    assert "schlüssel" not in str(caught.value)


def test_a_wrong_key_of_a_flag_is_told():
    with pytest.raises(UsageError, match="api_key holds an unusable key"):
        Keys(Config(api_key=("two words",)))
    with pytest.raises(UsageError, match="cannot be read"):
        Keys(Config(admin_key_file=Path("/nowhere")))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org"])
def test_a_public_address_wants_a_key_or_a_word(host: str):
    with pytest.raises(UsageError, match="--insecure-no-key"):
        Keys(config.load(["--host", host]))
    with pytest.raises(UsageError, match="--insecure-no-key"):
        Keys(config.load(["--host", host, "--admin-key", "a"]))  # anybody could score
    assert Keys(config.load(["--host", host, "--insecure-no-key"])).open_to_strangers
    assert not Keys(config.load(["--host", host, "--api-key", "k"])).open_to_strangers


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_the_loopback_needs_no_key(host: str):
    assert Keys(config.load(["--host", host])).open_to_strangers


def test_a_quota_refills_by_the_second():
    """60 a minute is 1 a second: a burst of 60, then what the seconds bring."""
    now = 100.0
    quota = Quota(60, clock=lambda: now)
    quota.take(50)
    quota.take(10)
    with pytest.raises(QuotaExceeded) as caught:
        quota.take(4)
    assert caught.value.retry_after_s == pytest.approx(4.0)
    assert (caught.value.got, caught.value.limit) == (4, 60)
    now += 4.0
    quota.take(4)
    now += 3600.0  # fills to the brim, not above
    quota.take(60)
    with pytest.raises(QuotaExceeded):
        quota.take(1)


def test_a_request_above_the_quota_is_late_and_not_impossible():
    """90 of 60 a minute: a full bucket lets it in, and 30 s of debt come before the next one."""
    now = 0.0
    quota = Quota(60, clock=lambda: now)
    quota.take(90)
    with pytest.raises(QuotaExceeded) as caught:
        quota.take(1)
    assert caught.value.retry_after_s == pytest.approx(31.0)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("keys")
    api, admin = folder / "api.keys", folder / "admin.keys"
    api.write_text(
        f"{digest(TRAINER)} name=trainer priority=bulk\n"
        f"{digest(CONSOLE)} name=console quota=3\n"
        f"{PLAIN}\n"
    )
    admin.write_text(f"{digest(ADMIN)} name=ops\n")
    with open_doors(api_key_file=api, admin_key_file=admin, log_requests=True) as opened:
        yield opened


def test_metrics_call_a_client_by_the_name_of_its_key(locked: OpenDoors):
    with RewardClient(locked.url, api_key=TRAINER) as client:
        client.score("p", ["r"])
    with GrpcRewardClient(locked.target, api_key=TRAINER) as client:
        client.score("p", ["r2"])
    name = {"model": "stub", "client": "trainer", "outcome": "scored"}
    value = locked.scorer.metrics.registry.get_sample_value("tureen_samples_total", name)
    assert value == 2


def test_the_key_of_a_trainer_keeps_it_in_the_bulk_lane(locked: OpenDoors):
    """A full device before it, a request with `x-priority: interactive` waits in its key's lane."""
    registry = locked.scorer.metrics.registry

    def waiting(lane: str) -> float | None:
        labels = {"model": "stub", "lane": lane}
        return registry.get_sample_value("tureen_queue_entries", labels)

    body = {"samples": [{"prompt": "p", "responses": [f"r{i}" for i in range(1000)]}]}
    headers = {**bearer(TRAINER), "x-priority": "interactive"}
    locked.gate.hold()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(
            httpx2.post, locked.url + "/v1/score", json=body, headers=headers, timeout=60
        )
        try:
            wait_until(lambda: bool(waiting("bulk")), "the queue")
            assert waiting("interactive") == 0
        finally:
            locked.gate.open()
        assert answer.result().status_code == 200


def test_a_quota_holds_at_both_doors_together(locked: OpenDoors):
    with RewardClient(locked.url, api_key=CONSOLE, retry=NEVER) as http:
        http.score("p", ["a", "b"])
        with GrpcRewardClient(locked.target, api_key=CONSOLE, retry=NEVER) as grpc:
            grpc.score("p", ["c"])
            with pytest.raises(QuotaExceeded) as caught:
                grpc.score("p", ["d", "e"])
            assert caught.value.retry_after_s == pytest.approx(40, abs=2)  # 2 of 3 a minute
        response = httpx2.post(locked.url + "/v1/score", json=BODY, headers=bearer(CONSOLE))
        refusal = http_refusal(response)
        assert (refusal.status, refusal.code) == (429, "quota_exceeded")
        assert int(refusal.headers["retry-after"]) <= 21  # 1 of 3 a minute
    with RewardClient(locked.url, api_key=PLAIN) as other:
        other.score("p", ["d", "e"])


def every_route(doors: OpenDoors) -> list[tuple[str, str]]:
    paths = httpx2.get(doors.url + "/openapi.json").json()["paths"]
    open_ = {"/healthz", "/readyz", "/metrics"}
    return [(method.upper(), path) for path in paths for method in paths[path] if path not in open_]


def test_every_route_asks_for_a_key(locked: OpenDoors):
    routes = every_route(locked)
    assert len(routes) > 15
    for method, path in routes:
        for headers in ({}, bearer("guess")):
            at = path.replace("{model_id}", "stub").replace("{fingerprint}", "sha256:0")
            response = httpx2.request(method, locked.url + at, json=BODY, headers=headers)
            assert response.status_code == 401, (method, path, response.text)
            assert response.headers["www-authenticate"] == "Bearer"


def test_every_method_asks_for_a_key(locked: OpenDoors):
    raw, metadata = RawGrpc(locked.target), (("authorization", "Bearer guess"),)
    services = pb.DESCRIPTOR.services_by_name
    for service in services.values():
        for method in service.methods:
            if method.client_streaming:
                continue  # tests/transports/test_stream.py
            call = raw.channel.unary_unary(f"/{service.full_name}/{method.name}", None, None)
            with pytest.raises(Exception, match="UNAUTHENTICATED"):
                call(b"", metadata=metadata)
    raw.channel.close()


@pytest.mark.parametrize("keys", [(PLAIN, "guess"), ("guess", PLAIN)])
def test_of_two_keys_the_first_counts_at_both_doors(locked: OpenDoors, keys: tuple[str, str]):
    """And of two ids, by which a request is found in logs."""
    headers = [("authorization", f"Bearer {key}") for key in keys]
    headers += [("x-request-id", "first"), ("x-request-id", "second")]
    http = httpx2.get(locked.url + "/v1/models", headers=headers)
    raw = RawGrpc(locked.target)
    call = raw.method("ListModels").future(b"", metadata=headers)
    known = keys[0] == PLAIN
    assert (call.exception() is None) == known
    assert (http.status_code == 200) == known
    assert dict(call.trailing_metadata())["x-request-id"] == "first"
    assert http.headers["x-request-id"] == "first"
    raw.channel.close()


def test_nothing_secret_is_said(locked: OpenDoors, caplog: pytest.LogCaptureFixture):
    """Neither the keys nor their hashes, wherever one may look."""
    caplog.set_level("DEBUG")
    said: list[str] = []
    for key in (*SECRETS, "guessed-secret-4"):
        for path in ("/v1/score", "/rerank", "/v1/nothing", "/get_reward"):
            response = httpx2.post(locked.url + path, content=b"{", headers=bearer(key))
            said += [response.text, str(response.headers)]
        for path in ("/v1/models", "/v1/soups", "/metrics", "/openapi.json", "/readyz", "/info"):
            response = httpx2.get(locked.url + path, headers=bearer(key))
            said += [response.text, str(response.headers)]
        raw = RawGrpc(locked.target)
        for method in ("Score", "ListModels"):
            call = raw.method(method).with_call
            try:
                said.append(str(call(b"x", metadata=[("authorization", f"Bearer {key}")])))
            except Exception as error:
                said.append(str(error))
        raw.channel.close()
    said += [repr(locked.admission.config), caplog.text]
    text = "\n".join(said)
    for key in (*SECRETS, "guessed-secret-4"):
        assert key not in text
        assert digest(key)[7:] not in text


def test_a_waiting_route_lets_nobody_wait_without_a_key(locked: OpenDoors):
    """Routes that hold requests while the model loads refuse a stranger at once."""
    locked.call(_closed(locked, True))
    try:
        for path in ("/get_reward", "/rm", "/v1/score/evaluation"):
            response = httpx2.post(locked.url + path, json={}, headers=bearer("x"), timeout=5)
            assert response.status_code == 401
    finally:
        locked.call(_closed(locked, False))


async def _closed(doors: OpenDoors, closed: bool) -> None:
    """As while the model loads, and after."""
    admission = doors.admission
    if closed:
        admission._closed = "the model is being loaded"
        admission._settled.clear()
    else:
        admission._closed = None


def test_keys_new_prints_the_key_apart_from_its_line(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["keys", "new", "--name", "t", "--quota", "5", "--priority", "bulk"]) == 0
    out, err = capsys.readouterr()
    key = err.strip()
    assert len(key) == 43  # 32 bytes in base64 without padding
    assert out == f"{digest(key)} name=t quota=5 priority=bulk\n"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--name", "a b"], "a name that is not 1 to 40 letters"),
        (["--quota", "-1"], "quota=-1; it must be a whole number"),
        (["--quota", "many"], "quota=many; it must be a whole number"),
        (["--priority", "fast"], "(choose from 'interactive', 'bulk')"),
    ],
)
def test_no_line_is_written_that_a_server_would_refuse(
    capsys: pytest.CaptureFixture[str], options: list[str], says: str
):
    assert cli.main(["keys", "new", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert len(err.splitlines()) == 1  # and no key was drawn for nothing


def test_keys_hash_reads_a_key(capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("mine\n"))
    assert cli.main(["keys", "hash"]) == 0
    assert capsys.readouterr().out == f"{digest('mine')}\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert cli.main(["keys", "hash"]) == 2
