from collections import Counter

from tureen_training.data.records import Split, split_of


def test_the_split_is_a_function_of_the_question_alone():
    # fixed for ever: a shipped model was trained on what these say
    assert [split_of(f"qaf-dev-{i:04d}").value for i in range(8)] == [
        "train",
        "train",
        "train",
        "train",
        "test",
        "validation",
        "train",
        "train",
    ]


def test_shares():
    counts = Counter(split_of(str(i)) for i in range(10_000))
    # binomial, standard deviation at most 0.005 of the whole: five of them
    assert abs(counts[Split.TRAIN] / 10_000 - 0.60) < 0.025
    assert abs(counts[Split.VALIDATION] / 10_000 - 0.15) < 0.025
    assert abs(counts[Split.TEST] / 10_000 - 0.25) < 0.025
