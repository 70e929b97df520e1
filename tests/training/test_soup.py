"""Stage `soup` and what it tries in memory, on tiny members that no run has to train."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pico_training
import pytest
import torch

from tureen.errors import IncompatibleSoup
from tureen.model.checkpoint import load, save
from tureen.model.manifest import LINEAR, Method, read_manifest, write_manifest
from tureen.model.soup import make_soup
from tureen.text.encoding import TextEncoder
from tureen_training import soup
from tureen_training.connectivity import Outcomes
from tureen_training.data.items import run
from tureen_training.data.records import Split
from tureen_training.data.sets import feedback_examples
from tureen_training.evaluation.scorers import forward_of
from tureen_training.soup_search import Selection
from tureen_training.soup_trials import Trials, outcomes_of, trials

TOKENS = 4096


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("soup")
    pico_training.members(root)
    return root


def members(root: Path) -> list[str]:
    return [str(root / "member-0"), str(root / "member-1")]


def opened(root: Path, method: Method = LINEAR):
    return trials(
        members(root),
        list(feedback_examples(root / "data", Split.VALIDATION)),
        method=method,
        cache=root / "cache",
        max_batch_tokens=TOKENS,
    )


def config(root: Path, out: Path, **changes: Any) -> soup.Config:
    defaults: dict[str, Any] = {
        "ingredients": tuple(members(root)),
        "out": str(out),
        "name": "pico-soup",
        "data": str(root / "data"),
        "runs": str(out.parent / "runs"),
        "cache": str(root / "cache"),
        "commands": "tureen-train soup",
        "max_batch_tokens": TOKENS,
        "threads": 1,
    }
    return soup.Config(**defaults | changes)


@pytest.mark.parametrize(
    "method", [LINEAR, Method(name="ties", density=0.5), Method(name="task_arithmetic", scale=0.5)]
)
def test_a_soup_tried_is_the_soup_that_is_loaded(root: Path, tmp_path: Path, method: Method):
    made = make_soup(members(root), [0.25, 0.75], tmp_path / "s", "weighted", method=method)
    loaded = load(tmp_path / "s")
    encoder = TextEncoder.from_directory(loaded.tokenizer_directory, made.text)
    with opened(root, method) as tried:
        ours = tried.values_of(tried.soup_of([0.25, 0.75]))
        theirs = run(tried.items, made.heads, forward_of(loaded.model, encoder), TOKENS)
    for one, other in zip(ours, theirs, strict=True):
        for a, b in zip(one, other, strict=True):
            for head in made.heads:
                # (base + delta) − base is not the fp16 delta to the last bit, and ties ranks by magnitude
                torch.testing.assert_close(
                    a.by_head[head.name], b.by_head[head.name], rtol=0, atol=2e-3
                )


def test_only_what_differs_is_kept_and_frozen_layers_run_once(root: Path, tmp_path: Path):
    """A second member that differs from the first in its top layer and heads alone."""
    first, second = (load(path) for path in members(root))
    state = first.model.state_dict()
    top = {n: t for n, t in second.model.state_dict().items() if ".layer.1." in n or "heads" in n}
    second.model.load_state_dict({**state, **top})
    save(tmp_path / "other", second.model, second.manifest)  # pyright: ignore[reportArgumentType]
    examples = list(feedback_examples(root / "data", Split.VALIDATION))
    with trials(
        [root / "member-0", tmp_path / "other"],
        examples,
        method=LINEAR,
        cache=tmp_path / "cache",
        max_batch_tokens=TOKENS,
    ) as tried:
        assert list(tried.states) == ["member-0", "other"]
        names = set(tried.states["other"])
        assert {name for name in names if "layer.0" in name or "embeddings" in name} == set()
        assert any(".layer.1." in name for name in names)
        assert list((tmp_path / "cache").glob("activations-*.npy"))
        ours = tried.values_of(tried.states["other"])
    encoder = TextEncoder.from_directory(second.tokenizer_directory, second.manifest.text)
    theirs = run(
        tried.items, tried.heads, forward_of(load(tmp_path / "other").model, encoder), TOKENS
    )
    for one, other in zip(ours, theirs, strict=True):
        for a, b in zip(one, other, strict=True):  # the kept activations are fp16
            torch.testing.assert_close(
                a.response("preference"), b.response("preference"), rtol=0, atol=5e-3
            )


def test_outcomes_by_hand(root: Path):
    """Four answers and the correction valued 4, 3, 2, 1, 0 by one head, their units −1, −2, … by another."""
    with opened(root) as tried:
        item = tried.items[0]
        zeros = tried.values_of(tried.soup_of([0.5, 0.5]))[0]
    answers = [
        answer._replace(
            by_head={
                "preference": torch.tensor([4.0 - k]),
                "relevance": -torch.arange(len(answer.by_head["relevance"])) - 1.0,
            }
        )
        for k, answer in enumerate(zeros)
    ]
    # human comparisons of (1,2) (1,3) (1,4) (2,3) (2,4) (3,4): second, first, second, first, tie, second;
    # the earlier has more, which is right in 2 of the 5 decided; and the correction should beat the first
    assert outcomes_of("preference", [item], [answers]) == Same(wins=2.0, counts=6.0)
    # of the first answer the first unit is clean and the second an error; nobody marked the others
    assert outcomes_of("relevance", [item], [answers]) == Same(wins=1.0, counts=1.0)


@dataclasses.dataclass
class Same:
    wins: float
    counts: float

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Outcomes)
        return (other.wins.tolist(), other.counts.tolist()) == ([self.wins], [self.counts])


def test_the_stage_chooses_checks_and_measures(root: Path, tmp_path: Path):
    soup.main(config(root, tmp_path / "soup", select="greedy", tolerance=1.0))
    manifest = read_manifest(tmp_path / "soup")
    assert manifest.recipe == "greedy"
    assert set(manifest.coefficients) <= {0.5, 1.0}
    assert manifest.metrics["split"] == "test"
    selection, lines = manifest.metrics["selection"], manifest.metrics["connectivity"]
    assert (selection["split"], selection["trials"]) == ("validation", 3)
    assert selection["accuracy"] >= selection["uniform"] or len(manifest.ingredients) == 1
    assert lines["tolerance"] == 1.0
    record = json.loads((tmp_path / "runs" / "pico-soup.connectivity.json").read_text())
    assert {(line["a"], line["b"]) for line in record["lines"]} >= {
        ("member-0", "member-1"),
        ("member-0", "the soup"),
    }
    assert (tmp_path / "runs" / "pico-soup.connectivity.png").is_file()


@pytest.fixture
def valley(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the members, and only there, every comparison is lost."""

    def outcomes(self: Trials, state: Any) -> dict[str, Outcomes]:
        ends = self.states.values()
        known = any(all(torch.equal(end[n], state[n]) for n in end) for end in ends)
        return {"preference": Outcomes(np.full(50, float(known)), np.ones(50))}

    monkeypatch.setattr(Trials, "outcomes", outcomes)


@pytest.mark.usefixtures("valley")
def test_a_barrier_is_refused_before_anything_is_written(root: Path, tmp_path: Path):
    with pytest.raises(IncompatibleSoup, match="between member-0 and member-1"):
        soup.main(config(root, tmp_path / "soup"))
    assert not (tmp_path / "soup").exists()
    record = json.loads((tmp_path / "runs" / "pico-soup.connectivity.json").read_text())
    assert record["lines"][0]["verdict"] == "barrier"


def test_a_soup_made_of_a_soup_keeps_what_was_tried_for_it(root: Path, tmp_path: Path):
    made = make_soup(members(root), [0.25, 0.75], tmp_path / "first", "searched")
    metrics = {"split": "test", "figures": {}, "selection": {"trials": 2}, "connectivity": {"a": 1}}
    write_manifest(tmp_path / "first", dataclasses.replace(made, metrics=metrics))
    asked = config(root, tmp_path / "second", ingredients=(str(tmp_path / "first"),))
    _, _, coefficients, found = soup.chosen(asked)
    assert coefficients == [1.0]
    assert found == {"selection": {"trials": 2}, "connectivity": {"a": 1}}


@pytest.mark.usefixtures("valley")
def test_a_barrier_can_be_forced_or_not_looked_for(root: Path, tmp_path: Path):
    forced = soup.chosen(config(root, tmp_path / "soup", force=True))
    assert forced[:3] == ("uniform", members(root), [0.5, 0.5])
    assert forced[3]["connectivity"]["verdicts"]["barrier"] >= 1
    assert soup.chosen(config(root, tmp_path / "soup", connectivity=False))[3] == {}


def test_what_is_chosen_is_what_takes_part(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    only = Selection((0.0, 1.0), 0.7, {(0.5, 0.5): 0.6, (0.0, 1.0): 0.7})
    monkeypatch.setitem(soup.SELECTIONS, "searched", lambda count, evaluate: only)
    asked = config(root, tmp_path / "s", select="searched", connectivity=False)
    recipe, ingredients, coefficients, found = soup.chosen(
        dataclasses.replace(asked, method=Method(name="ties", density=0.5))
    )
    assert (recipe, ingredients, coefficients) == ("ties-searched", members(root)[1:], [1.0])
    assert found["selection"] == {
        "split": "validation",
        "accuracy": 0.7,
        "trials": 2,
        "uniform": 0.6,
    }


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"select": "greed"}, "did you mean 'greedy'"),
        ({"select": "greedy", "coefficients": (0.5, 0.5)}, "give one of the two"),
    ],
)
def test_what_contradicts_itself_is_refused(
    root: Path, tmp_path: Path, changes: dict[str, Any], problem: str
):
    with pytest.raises(ValueError, match=problem):
        soup.chosen(config(root, tmp_path / "s", **changes))
