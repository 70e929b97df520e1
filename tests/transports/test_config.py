"""One class of settings: where a value may come from, which wins, and what a mistake is told."""

from pathlib import Path

import pytest

from tureen import config
from tureen.config import Config, UsageError


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch):
    for name in Config.model_fields:
        monkeypatch.delenv(f"TUREEN_{name.upper()}", raising=False)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_defaults_listen_on_this_machine_alone():
    settings = config.load([])
    assert (settings.model, settings.host) == (("grounded-qa",), "127.0.0.1")
    assert (settings.http_port, settings.grpc_port) == (8080, 8081)
    assert settings.api_key == ()


def test_a_flag_beats_the_environment_beats_the_file(tmp_path: Path, monkeypatch):
    file = write(tmp_path / "tureen.yaml", "http_port: 1\ngrpc_port: 1\ndrain_s: 1\n")
    monkeypatch.setenv("TUREEN_HTTP_PORT", "2")
    monkeypatch.setenv("TUREEN_GRPC_PORT", "2")
    settings = config.load(["--config", str(file), "--http-port", "3"])
    assert (settings.http_port, settings.grpc_port, settings.drain_s) == (3, 2, 1.0)
    monkeypatch.setenv("TUREEN_CONFIG", str(file))
    assert config.load([]).drain_s == 1.0


def test_every_setting_can_be_given_in_every_way(tmp_path: Path, monkeypatch):
    """Each as a flag, in the environment and in the file, with a value that is not its default."""
    keys = write(tmp_path / "keys", "k\n")
    given = {
        "host": "::1",
        "backend": "torch",
        "device": "cpu",
        "dtype": "bfloat16",
        "redistribute": "ablation",
        "api_key_file": str(keys),
        "log_level": "debug",
        "drain_s": "7.5",
        "front_ends": "2",
        "model": "stub",
        "api_key": "secret",
        "admin_key": "secret",
        "admin_key_file": str(keys),
        "tls_certificate_file": str(keys),
        "tls_key_file": str(keys),
        "tls_client_ca_file": str(keys),
        "log_format": "json",
        "otlp_endpoint": "http://collector:4317",
        "upstream_activation": "vllm,tei",
    }
    for name in Config.model_fields:
        value = given.get(name, "2048")
        if name == "model":
            flags = [value]
        elif Config.model_fields[name].annotation is bool:
            value = "true"
            flags = [config.flag(name)]
        elif name == "upstream_activation":
            flags = [config.flag(name), "vllm", config.flag(name), "tei"]
        else:
            flags = [config.flag(name), value]
        by_flag = config.load(flags)
        assert getattr(by_flag, name) != getattr(Config(), name), name
        with monkeypatch.context() as environment:
            environment.setenv(f"TUREEN_{name.upper()}", value)
            assert config.load([]) == by_flag, name
        file = write(tmp_path / "one.yaml", f"{name}: {value!r}\n")
        assert config.load(["--config", str(file)]).model_dump() == by_flag.model_dump(), name


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:1", "tensorrt", "tensorrt:0"])
def test_devices_that_are_known(name: str):
    assert config.load(["--device", name]).device == name


def test_several_models_come_in_every_way_and_in_their_order(tmp_path: Path, monkeypatch):
    for flags in (["a", "b"], ["--model", "a", "--model", "b"], ["a", "--model", "b"]):
        assert config.load(flags).model == ("a", "b")
    assert config.load(["--http-port", "1", "a", "b"]).model == ("a", "b")
    assert config.load(["with,comma"]).model == ("with,comma",)
    for text in ("model: [a, b]\n", "model: a,b\n"):
        file = write(tmp_path / "tureen.yaml", text)
        assert config.load(["--config", str(file)]).model == ("a", "b")
    monkeypatch.setenv("TUREEN_MODEL", "a,b")
    assert config.load([]).model == ("a", "b")
    assert config.load(["c"]).model == ("c",)


def test_keys_are_not_shown(monkeypatch):
    monkeypatch.setenv("TUREEN_API_KEY", "five,six")
    settings = config.load(["--admin-key", "seven"])
    assert settings.api_key == ("five", "six")
    assert not any(key in repr(settings) for key in ("five", "six", "seven"))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--htp-port", "1"], "did you mean '--http-port'?"),
        (["--http", "1"], "did you mean '--http-port'?"),
        (["--http-port", "x"], "http_port is 'x': input should be a valid integer"),
        (["--http-port", "70000"], "less than or equal to 65535 (--http-port, TUREEN_HTTP_PORT)"),
        (["--backend", "tensorflow"], "invalid choice: 'tensorflow'"),
        (["--device", "gpu"], "device is 'gpu': known are auto, cpu, cuda, cuda:N, tensorrt and"),
        (["--device", "cuda:one"], "(--device, TUREEN_DEVICE)"),
        (["--upstream-activation", "vlm"], "invalid choice: 'vlm'"),
        (["--drain-s", "nan"], "finite"),
        (["--max-client-batch-size", "9999"], "above max_concurrent_requests"),
        (["a", "--http-port", "1", "b"], "does not take 'b'"),
        (["--model", ""], "model is '': string should have at least 1 character"),
        (["--config", "/nowhere.yaml"], "cannot be read"),
    ],
)
def test_a_wrong_flag_is_one_line(flags: list[str], says: str):
    with pytest.raises(UsageError) as caught:
        config.load(flags)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("htp_port: 1\n", "did you mean 'http_port'?"),
        ("http_port: x\n", "http_port is 'x'"),
        ("- a\n", "such as 'http_port: 8080'"),
        ("a: [\n", "is not YAML"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, says: str):
    file = write(tmp_path / "tureen.yaml", text)
    with pytest.raises(UsageError) as caught:
        config.load(["--config", str(file)])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_misspelt_variable_is_refused_and_a_foreign_one_is_not(monkeypatch):
    """Kubernetes sets the foreign ones for a service named tureen."""
    for foreign in ("TUREEN_SERVICE_HOST", "TUREEN_PORT", "TUREEN_PORT_8080_TCP_ADDR"):
        monkeypatch.setenv(foreign, "tcp://10.0.0.1:8080")
    monkeypatch.setenv("TUREEN_MODELS", "/models")
    config.load([])
    monkeypatch.setenv("TUREEN_HTP_PORT", "1")
    with pytest.raises(UsageError, match="did you mean TUREEN_HTTP_PORT"):
        config.load([])


def test_help_and_table_tell_of_every_setting():
    text, table = config.parser().format_help(), config.flag_table()
    for name, field in Config.model_fields.items():
        assert field.description
        assert name == "model" or config.flag(name) in text
        assert f"`TUREEN_{name.upper()}`" in table
