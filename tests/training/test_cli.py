import re
from dataclasses import dataclass, field

import pytest

from tureen.model.schema import SchemaError
from tureen.usage import UsageError
from tureen_training import cli


@dataclass(frozen=True, slots=True, kw_only=True)
class Long:
    short: tuple[str, ...] = ("x",) * 20  # of each four characters and a comma and a space but one
    long: tuple[str, ...] = ("x",) * 21


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Made for the test."""

    data: str
    epochs: int = 2
    learning_rate: float = 0.1
    mix: dict[str, float] = field(default_factory=lambda: {"a": 1.0})
    parts: tuple[str, ...] = ()


def test_file_then_options(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("data: here\nepochs: 5\nmix: {a: 0.5, b: 2}\n")
    config = cli.configuration(
        Config, ["--epochs", "7", "--config", str(file), "--parts", "[x, y]"]
    )
    assert config == Config(data="here", epochs=7, mix={"a": 0.5, "b": 2.0}, parts=("x", "y"))


def test_text_is_taken_as_it_stands():
    assert cli.configuration(Config, ["--data", "1e3"]).data == "1e3"
    assert cli.configuration(Config, ["--data", "x", "--learning-rate", "1"]).learning_rate == 1.0


def test_an_equals_sign_and_a_list_of_one():
    config = cli.configuration(Config, ["--data=a=b", "--epochs=3", "--parts", "x.jsonl"])
    assert config == Config(data="a=b", epochs=3, parts=("x.jsonl",))


def test_all_that_is_missing_is_named_at_once(capsys):
    assert cli.main(["soup", "--name", "n"]) == 2
    assert "--ingredients, --out, --data must be given" in capsys.readouterr().err


def test_the_fields_stand_in_columns_with_what_they_may_be(capsys):
    assert cli.main(["ppo", "--prompts", "x", "--help"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"--kl-target-nats-per-response +null$", out, re.MULTILINE)
    assert re.search(r"--on-swap +log  \(or refuse\)$", out, re.MULTILINE)


def test_of_a_long_default_help_shows_the_beginning():
    lines = cli.describe(Long).splitlines()
    assert lines[-2].endswith("  [" + ", ".join(['"x"'] * 20) + "]")  # 20·3 + 19·2 + 2 = 100
    assert lines[-1].endswith('"x", …')  # 100 characters end behind the twentieth comma


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--version"], "tureen-train "),
        (["demo"], "NAME"),
        (["demo", "--help"], "overoptimisation"),
    ],
)
def test_what_is_asked_for_is_no_mistake(capsys, arguments, says):
    assert cli.main(arguments) == 0
    assert says in capsys.readouterr().out


def test_an_interrupt_is_one_line(monkeypatch, capsys):
    def interrupted(name: str):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.importlib, "import_module", interrupted)
    assert cli.main(["reward"]) == 130
    assert capsys.readouterr().err == "tureen-train reward: interrupted\n"


def test_numbers_in_any_spelling(tmp_path):
    options = ["--data", "x", "--learning-rate", "3e-4"]
    assert cli.configuration(Config, options).learning_rate == 3e-4
    file = tmp_path / "c.yaml"
    file.write_text("data: x\nlearning_rate: 1e-5\n")
    assert cli.configuration(Config, ["--config", str(file)]).learning_rate == 1e-5


def test_a_missing_extra_is_one_line(monkeypatch, capsys):
    def absent(name: str):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(cli.importlib, "import_module", absent)
    assert cli.main(["reward"]) == 2
    error = capsys.readouterr().err
    assert "pip install 'tureen[training]'" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--epoch", "3"], "unknown option '--epoch'; did you mean '--epochs'"),
        (["data", "x"], "unknown option 'data'"),
        (["--config", "nowhere.yaml"], "--config nowhere.yaml cannot be read: No such file"),
        ([], "--data must be given, here or in the file of --config"),
        (["--epochs"], "'--epochs' has no value"),
        (["--epochs", "{"], "'{' is not YAML"),
    ],
)
def test_usage_errors(options, problem):
    with pytest.raises(UsageError, match=problem):
        cli.configuration(Config, options)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--data", "x", "--epochs", "many"], "epochs is 'many'; it must be an integer"),
        (["--data", "x", "--mix", "{a: b}"], "mix.a is 'b'; it must be a number"),
    ],
)
def test_wrong_values(options, problem):
    with pytest.raises(SchemaError, match=problem):
        cli.configuration(Config, options)


def test_unknown_key_of_a_file(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("data: here\nlearning_rat: 5\n")
    with pytest.raises(SchemaError, match="learning_rat is unknown; did you mean 'learning_rate'"):
        cli.configuration(Config, ["--config", str(file)])
    file.write_text("[1, 2]")
    with pytest.raises(UsageError, match="must hold a mapping"):
        cli.configuration(Config, ["--config", str(file)])
    file.write_text("{a: ]")
    with pytest.raises(UsageError, match="is not YAML"):
        cli.configuration(Config, ["--config", str(file)])


def test_main(capsys):
    assert cli.main([]) == 0
    assert "reward" in capsys.readouterr().out
    assert cli.main(["rewards"]) == 2
    assert "unknown stage 'rewards'; did you mean 'reward'" in capsys.readouterr().err
    assert cli.main(["soup", "--help"]) == 0
    assert "--ingredients" in capsys.readouterr().out
    assert cli.main(["reward", "--epocs", "1"]) == 2
    assert "did you mean '--epochs'" in capsys.readouterr().err
    assert (
        cli.main(["reward", "--data", "/nowhere", "--out", "x", "--name", "y", "--seed", "a"]) == 2
    )
    assert "seed is 'a'" in capsys.readouterr().err
