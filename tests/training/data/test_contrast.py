import random

import feedback_files
import pytest

from tureen_training.data.contrast import contrast_example
from tureen_training.data.coverage import similarity, stated
from tureen_training.data.focus import sentences_of
from tureen_training.data.qa_feedback import Reference
from tureen_training.data.records import Comparison, Example, Pair


@pytest.fixture(params=range(8))
def example(request) -> Example:
    reference = Reference(
        question_id="r",
        question="What happened to the lighthouse on Gull Point?",
        passages=(
            " ".join(feedback_files.PASSAGE[1:]) + " The tower fell in 1940 under Karl Dahl.",
        ),
        answer=feedback_files.CORRECTED,
    )
    made = contrast_example(reference, random.Random(request.param))
    assert made is not None
    return made


def marked(example: Example, head: str, response: int) -> list[str]:
    labels = example.spans[head][response]
    assert labels is not None
    return [example.responses[response][span.start : span.end] for span in labels.errors]


def test_what_each_response_is(example: Example):
    reference, dropped, disturbed, _ = example.responses
    assert reference == feedback_files.CORRECTED
    assert len(sentences_of(dropped)) == len(sentences_of(reference)) - 1
    assert len(disturbed) > len(reference)
    assert example.pairs[Comparison.COMPLETION] == (Pair(0, 1), Pair(2, 1))


def test_labels_name_what_was_done(example: Example):
    evidence = sentences_of(" ".join(example.context))
    for response in (0, 1):
        assert marked(example, "relevance", response) == []
        assert marked(example, "factuality", response) == []
    (false,) = marked(example, "factuality", 2)
    assert false not in evidence
    assert false not in example.responses[0]
    for response in (2, 3):
        irrelevant = marked(example, "relevance", response)
        assert irrelevant
        assert all(sentence in evidence for sentence in irrelevant)
        assert not set(irrelevant) & set(sentences_of(example.responses[0]))


def test_poor_material_makes_no_example():
    poor = Reference(
        question_id="r", question="Who?", passages=("Nothing to see.",), answer="One sentence."
    )
    assert contrast_example(poor, random.Random(0)) is None


def test_similarity_by_hand():
    assert similarity("was built in 1871", "The tower was built in 1871.") == 1.0
    # "abcd" against "abce": three characters of four are shared
    assert similarity("abcd", "abce") == pytest.approx(2 * 3 / 8)
    assert similarity("abcd", "wxyz") == 0.0
    assert similarity("", "abc") == similarity("abc", "") == 0.0


def test_stated():
    sentences = feedback_files.PASSAGE[1:]
    assert stated(feedback_files.CORRECTED, sentences) == {0, 1}
    assert stated("I do not know.", sentences) == set()
    assert stated("Anything at all.", []) == set()
