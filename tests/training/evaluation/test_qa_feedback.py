"""Figures of annotated questions, by hand on one question."""

from __future__ import annotations

import feedback_files
import pytest

from tureen.contracts import Calibration, Granularity
from tureen.model.manifest import HeadSpec
from tureen.text.segments import Span, segment
from tureen_training.data.labels import feedback_example
from tureen_training.data.qa_feedback import read_feedback
from tureen_training.data.records import Example, SpanLabels
from tureen_training.evaluation import qa_feedback
from tureen_training.evaluation.comparisons import unit_rows
from tureen_training.evaluation.readings import HeadReading, Reading


def head(name: str, granularity: Granularity, threshold: float | None = None) -> HeadSpec:
    return HeadSpec(
        name=name,
        granularity=granularity,
        weight=1.0,
        calibration=Calibration(mean=0.5),
        threshold=threshold,
    )


HEADS = (
    head("preference", Granularity.RESPONSE),
    head("factuality", Granularity.SENTENCE, threshold=0.0),
    head("relevance", Granularity.SUB_SENTENCE),
    head("completeness", Granularity.RESPONSE),
)


@pytest.fixture
def example(tmp_path) -> Example:
    path = feedback_files.write(tmp_path / "f.jsonl", [feedback_files.feedback_record(0)])
    return feedback_example(next(iter(read_feedback(path))))


def reading(text: str, reward: float, units: list[float]) -> Reading:
    """The heads' values are `reward`; of the units, in turn, `units`."""

    def of(granularity: Granularity) -> HeadReading:
        spans = tuple(segment(text, granularity))
        return HeadReading(reward, spans, tuple(units[: len(spans)]))

    return Reading(reward=reward, heads={spec.name: of(spec.granularity) for spec in HEADS})


def test_figures_by_hand(example: Example):
    """Preferences [2, 1, 2, 1, 0, 2]: 2>1, 1>3, 4>1, 2>3, 2=4, 4>3; rewards 1 … 4 in order, correction 9.

    So 2>1 and 4>1 and 4>3 are won, 1>3 and 2>3 lost: 3 of 5. The first sentence of answer 1 is a factual error,
    the second irrelevant: of factuality only the first counts; of relevance the second is the error.
    """
    assert len(segment(feedback_files.FIRST, Granularity.SUB_SENTENCE)) == 2
    values = (1.0, 2.0, 3.0, 4.0, 9.0)
    readings = [
        reading(text, value, [1.0, 0.4])
        for text, value in zip(example.responses, values, strict=True)
    ]
    found = qa_feedback.figures([(example, readings)], HEADS, temperature=2.0)
    assert found["preference_accuracy"].value == pytest.approx(3 / 5)
    assert found["preference_accuracy"].n == 5
    # first: 1>3, 2>3 won of five
    assert found["preference_accuracy"].baselines["first"] == pytest.approx(2 / 5)
    assert found["reward_accuracy"].value == pytest.approx(3 / 5)
    assert found["completion_accuracy"].value == 1.0
    assert "first" not in found["completion_accuracy"].baselines
    # 0.4 is below the mean 0.5, 1.0 is not: the error is called and the clean unit is not
    assert found["relevance_f1"].value == found["relevance_f1_clean"].value == 1.0
    assert found["relevance_auroc"].value == 1.0
    # one class only: an AUROC would mean nothing
    assert "factuality_auroc" not in found
    # p = σ(±1/2), σ(±1), σ(±3/2) of 2>1 (+1), 1>3 (−2), 4>1 (+3), 2>3 (−1), 4>3 (+1)
    margins = [1, -2, 3, -1, 1]
    expected = sum((1 - 1 / (1 + 2.718281828459045 ** (-m / 2))) ** 2 for m in margins) / 5
    assert found["preference_brier"].value == pytest.approx(expected)


def test_without_a_temperature_no_probability(example: Example):
    readings = [reading(text, 1.0, [1.0, 0.4]) for text in example.responses]
    found = qa_feedback.figures([(example, readings)], HEADS, temperature=None)
    assert not {"preference_ece", "preference_brier"} & set(found)
    assert found["preference_accuracy"].value == 0.5  # all ties


def test_a_model_of_one_head_is_compared_by_its_reward(example: Example):
    readings = [Reading(float(k), {"reward": HeadReading(float(k), (), ())}) for k in range(5)]
    found = qa_feedback.figures(
        [(example, readings)], (head("reward", Granularity.RESPONSE),), temperature=1.0
    )
    assert set(found) == {
        "preference_accuracy",
        "reward_accuracy",
        "preference_ece",
        "preference_brier",
    }
    assert found["preference_accuracy"].value == pytest.approx(3 / 5)


def test_sub_sentences_have_the_value_of_their_sentence(example: Example):
    """A sentence of two sub-sentences with the factual error in the second: one value, two labels."""
    text = "Built by Anna Berg in the north, it was raised in the year 1888. Gulls nest there all year."
    cut = segment(text, Granularity.SUB_SENTENCE)
    assert len(cut) == 3
    start = text.index("1888")
    one = Example(
        prompt_id="q",
        origin="test",
        prompt="?",
        responses=(text,),
        spans={"factuality": (SpanLabels(errors=(Span(start, start + 4),)),)},
    )
    read = one, [reading(text, 0.0, [-1.0, 2.0])]
    assert unit_rows(read, "factuality", 0.5, 4).tolist() == [[-1.5, 0], [1.5, 1]]
    finer = unit_rows(read, "factuality", 0.5, 4, finer=True)
    assert finer.tolist() == [[-1.5, 1], [-1.5, 0], [1.5, 1]]
