import json

import pytest

from tureen_training import runlog
from tureen_training.runlog import RunLog, draw, numbers


def test_events_are_lines_and_numbers_have_paths(tmp_path):
    log = RunLog(tmp_path / "run" / "metrics.jsonl")
    log.write("epoch", step=3, loss={"preference": 0.5}, note="x")
    (line,) = log.path.read_text().splitlines()
    record = json.loads(line)
    assert (record["event"], record["step"]) == ("epoch", 3)
    assert dict(numbers("epoch", {"loss": {"a": 0.5}, "number": 1, "note": "x"})) == {
        "epoch/loss/a": 0.5,
        "epoch/number": 1,
    }


def test_what_came_after_the_state_is_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = RunLog(path)
    log.write("data")
    kept = log.sync()
    log.write("step", step=1)
    again = RunLog(path, keep_bytes=kept)
    assert [record["event"] for record in again.records()] == ["data"]
    again.write("step", step=1)
    assert [record["event"] for record in again.records()] == ["data", "step"]
    path.unlink()
    assert RunLog(path, keep_bytes=kept).records() == []  # not filled up with zeros


def test_no_figure_is_no_number(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        RunLog(tmp_path / "metrics.jsonl").write("step", loss=float("nan"))


def test_a_tracker_that_is_not_there_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setattr(runlog.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="not installed: pip install trackio, or say none"):
        runlog.accelerator_for("trackio", tmp_path)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def lines_of(capsys, items, seconds: float, **settings) -> list[str]:
    """What a log file holds of work that takes so long for each item."""
    clock, seen = Clock(), []
    for item in runlog.progress(items, "reading", clock=clock, **settings):
        seen.append(item)
        clock.now_s += seconds
    assert seen == [*range(10)]
    return capsys.readouterr().err.splitlines()


def test_long_work_says_in_a_log_file_how_far_it_is(capsys):
    expected = [
        "reading: 2/10, 00:40 elapsed, 02:40 remaining",
        "reading: 4/10, 01:20 elapsed, 02:00 remaining",
        "reading: 6/10, 02:00 elapsed, 01:20 remaining",
        "reading: 8/10, 02:40 elapsed, 00:40 remaining",
    ]
    assert lines_of(capsys, range(10), 20.0) == expected
    assert lines_of(capsys, iter(range(10)), 20.0, total=10) == expected
    assert lines_of(capsys, iter(range(10)), 20.0)[0] == "reading: 2, 00:40 elapsed"


def test_short_work_says_nothing_nor_does_another_process(capsys, monkeypatch):
    assert lines_of(capsys, range(10), 2.9) == []
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert lines_of(capsys, range(10), 20.0) == []


def test_curves_are_a_png(tmp_path):
    records = [
        {"event": "data", "step": 0},
        {"event": "step", "step": 1, "loss": {"preference": 0.7}},
        {"event": "step", "step": 2, "loss": {"preference": 0.6, "relevance": 0.5}},
        {"event": "epoch", "step": 2, "validation": {"preference_accuracy": 0.6}},
    ]
    draw(records, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
