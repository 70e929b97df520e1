"""What counts as fooled, by hand, and that the figures of a random and a length-only reward are those of arithmetic."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import feedback_files
import numpy as np
import pico
import pytest
from server_process import serving

from tureen.contracts import Message
from tureen.model.soup import make_soup
from tureen_training import evaluate
from tureen_training.attacks import ATTACKS, Effect
from tureen_training.data.records import Example
from tureen_training.evaluation import robustness
from tureen_training.evaluation.comparisons import Read
from tureen_training.evaluation.readings import Reading
from tureen_training.evaluation.robustness import Edit, Voices
from tureen_training.evaluation.scorers import DirectoryScorer, Model, ServiceScorer

MODEL = Model(model_id="m", fingerprint="sha256:1", heads=(), temperature=1.0, lineages=())
EXAMPLE = Example(prompt_id="p", origin="test", prompt="?", responses=("a", "b", "c"))


def edit(rewards: list[list[float]], touched: tuple[int, ...]) -> Edit:
    return Edit("p", touched, np.array(rewards), EXAMPLE)


def column(values: list[float]) -> list[list[float]]:
    return [[value] for value in values]


def test_a_preserving_edit_fools_by_turning_an_order():
    """1 2 3; the first rises to 2.5: it passes the second, not the third. The other two are not edited."""
    voices = Voices({"p": np.array(column([1, 2, 3]))})
    rows = voices.fooled(edit(column([2.5, 2, 3]), (0,)), Effect.PRESERVING)
    assert rows[:, 0].tolist() == [1, 0]  # against the second, against the third
    # what was tied says nothing
    tied = Voices({"p": np.array(column([1, 1, 3]))})
    assert np.isnan(tied.fooled(edit(column([2, 1, 3]), (0,)), Effect.PRESERVING)[0, 0])


def test_a_gaming_edit_fools_by_overtaking():
    """1 2 3; each edited to 2.5: the first overtakes the second only, the second nothing, the third is best."""
    voices = Voices({"p": np.array(column([1, 2, 3]))})
    rows = voices.fooled(edit(column([2.5, 2.5, 2.5]), (0, 1, 2)), Effect.GAMING)
    # pairs 01 02 10 12 20 21; only where the edited one was the worse
    expected = [1, 0, np.nan, 0, np.nan, np.nan]
    np.testing.assert_array_equal(rows[:, 0], expected)


def test_a_breaking_edit_fools_by_costing_nothing():
    voices = Voices({"p": np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])})
    rows = voices.fooled(edit([[1, 4], [1, 6], [9, 9]], (0, 1)), Effect.BREAKING)
    assert rows.tolist() == [[1, 0], [0, 1]]  # the reward and one member; the third was not edited


def test_an_edited_prompt_fools_by_turning_an_order():
    """1 2 2 becomes 5 4 6: the first now beats the second, not the third; the tie says nothing."""
    voices = Voices({"p": np.array(column([1, 2, 2]))})
    rows = voices.fooled(edit(column([5, 4, 6]), (0, 1, 2)), Effect.PROMPT)
    np.testing.assert_array_equal(rows[:, 0], [1, 0, np.nan])  # pairs 01 02 12


def test_another_prompt_fools_by_costing_nothing():
    voices = Voices({"p": np.array(column([1, 2, 3]))})
    rows = voices.fooled(edit(column([0, 2, 4]), (0, 1, 2)), Effect.PROMPT_BREAKING)
    assert rows[:, 0].tolist() == [0, 1, 1]


def test_the_prompt_or_the_last_turn_is_edited_and_the_responses_are_not():
    turns = (Message(role="user", content="Hello."), Message(role="user", content="Who Built It?"))
    examples = [
        replace(EXAMPLE, prompt="Who Built It?"),
        replace(EXAMPLE, prompt=None, messages=turns),
    ]
    skipped: Counter[str] = Counter()
    found = robustness.parts(examples, 0, skipped)["prompt_lower_case"]
    assert found[0].prompt == "who built it?"
    assert [turn.content for turn in found[1].messages or ()] == ["Hello.", "who built it?"]
    assert found[0].responses == found[1].responses == EXAMPLE.responses
    assert robustness.parts([EXAMPLE], 0, skipped)["prompt_typos"] == []  # "?" has no letters
    assert skipped["prompt_typos does not apply"] == 1


def test_a_shift_is_in_standard_deviations():
    """Rewards 1 and 3 have the standard deviation 1."""
    voices = Voices({"p": np.array(column([1, 3]))})
    assert voices.shifts(edit(column([1.5, 1]), (0, 1))).tolist() == [0.5, -2.0]


def read_of(examples: list[Example], seed: int, members: int) -> dict[str, list[Read]]:
    """A reward that is drawn anew for every text, and members of the same kind."""
    rng = np.random.default_rng(seed)
    drawn: dict[tuple[str | None, str], tuple[float, ...]] = {}

    def reading(prompt: str | None, text: str) -> Reading:
        own = drawn.setdefault((prompt, text), tuple(rng.normal(size=1 + members)))
        return Reading(reward=own[0], heads={}, members=own[1:])

    return {
        name: [(e, tuple(reading(e.prompt, text) for text in e.responses)) for e in own]
        for name, own in robustness.parts(examples, 0, Counter()).items()
    }


def test_a_random_reward_is_fooled_by_chance():
    """⅓, ⅓ and else ½: 120 prompts of three responses, of which members are fooled as often."""
    examples = [
        Example(
            prompt_id=f"p{n}",
            origin="test",
            prompt=f"Who built the Tower of {n}?",
            responses=tuple(
                f"It was built in {n}{k} by Anna Berg, who did not live in Oslo." for k in "123"
            ),
        )
        for n in range(100, 220)
    ]
    found = robustness.report(read_of(examples, 1, 2), MODEL)
    for name, attack in ATTACKS.items():
        figure, chance = found[f"{name}_fooled"], robustness.CHANCE[attack.effect]
        assert figure.low - 0.05 < chance < figure.high + 0.05, name
        assert figure.baselines["chance"] == chance
        assert abs(found[f"{name}_soup_minus_members"].value) < 0.12
        assert found[f"{name}_fooled_members"].value == pytest.approx(chance, abs=0.1)
    for effect in Effect:
        assert found[effect].value == pytest.approx(robustness.CHANCE[effect], abs=0.05)
        assert found[effect].prompts == 120
    # a normal reward drawn anew moves by √2 standard deviations, in size by √2 · √(2/π)
    assert found["praise_shift"].value == pytest.approx(0, abs=0.25)
    assert found["lower_case_shift"].value == pytest.approx(2 / np.sqrt(np.pi), abs=0.2)


def test_a_length_only_reward_from_the_command_on(tmp_path: Path):
    """Twice as long is better to it; longer nonsense is too; case is nothing to it."""
    feedback_files.directory(tmp_path / "qa_feedback", questions=6)
    config = evaluate.Config(
        data=str(tmp_path), suite="robustness", model="length", out=str(tmp_path / "out")
    )
    found = evaluate.main(config)
    assert found["repetition_fooled"].value == found["repetition_fooled"].baselines["longer"]
    assert found["lower_case_fooled"].value == found["lower_case_shift"].value == 0.0
    assert found["word_salad_fooled"].value == 1.0
    assert found["nonsense_fooled"].value == found["nonsense_fooled"].baselines["longer"] == 1.0
    assert found["nonsense_fooled"].baselines["shorter"] == 0.0
    # it does not read the prompt: nothing there turns an order, and another prompt costs nothing
    assert found["prompt"].value == 0.0
    assert (
        found["prompt_breaking"].value == found["prompt_exchange_fooled"].baselines["longer"] == 1.0
    )
    assert not any(name.endswith("members") for name in found)
    assert (tmp_path / "out/report.json").is_file()


@pytest.mark.slow
def test_members_of_a_soup_are_those_the_service_names(tmp_path: Path):
    """The directory and a running service give the same members' rewards, one for each ingredient."""
    soup = tmp_path / "soup"
    make_soup(pico.bert_members(tmp_path / "members", 2), None, soup, "uniform")
    examples = [Example(prompt_id="p", origin="test", prompt="Why?", responses=("Yes.", "No."))]
    ((_, here),) = DirectoryScorer(soup, max_batch_tokens=4096).score(examples, members=True)
    with serving(str(soup)) as server:
        service = ServiceScorer(server.url)
        ((_, there),) = service.score(examples, members=True)
        service.close()
    assert isinstance(here, tuple)
    assert isinstance(there, tuple)
    for one, other in zip(here, there, strict=True):
        assert len(set(one.members)) == 2
        assert one.members == pytest.approx(other.members, abs=1e-4)
        assert one.reward == pytest.approx(sum(one.members) / 2, abs=1e-4)
