import numpy as np
from engine_fakes import window

from tureen.text.batch import collate
from tureen.text.encoding import Window


def test_rows_are_padded_on_the_right_and_masks_count_what_is_there():
    short = Window(np.array([7, 8], np.int32), np.array([0, 1], np.int32), np.array([[0, 2]]), 1)
    long = Window(
        np.array([1, 2, 3, 4], np.int32),
        np.array([0, 0, 1, 1], np.int32),
        np.array([[0, 1], [1, 4]]),
        response_start=2,
    )
    batch = collate([short, long], pad_id=9)
    assert batch.input_ids.tolist() == [[7, 8, 9, 9], [1, 2, 3, 4]]
    assert batch.attention_mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch.token_type_ids.tolist() == [[0, 1, 0, 0], [0, 0, 1, 1]]
    assert batch.span_weights.tolist() == [
        [[0.5, 0.5, 0, 0], [0, 0, 0, 0]],  # the second unit is padding: sums to 0
        [[1, 0, 0, 0], [0, np.float32(1 / 3), np.float32(1 / 3), np.float32(1 / 3)]],
    ]


def test_types_are_what_a_backend_expects_and_padding_is_accounted_for():
    batch = collate([window(1, 3), window(2, 5)])
    assert batch.input_ids.dtype == batch.attention_mask.dtype == np.int64
    assert batch.token_type_ids.dtype == np.int64
    assert batch.span_weights.dtype == np.float32
    assert (batch.rows, batch.tokens, batch.padded_tokens) == (2, 8, 10)


def test_what_is_counted_about_units_is_padded_with_units():
    one, two = (
        Window(np.arange(3, dtype=np.int32), np.zeros(3, np.int32), spans, 0, features)
        for spans, features in (
            (np.array([[0, 3]]), np.array([[5.0, 6.0]], np.float32)),
            (np.array([[0, 3], [0, 1]]), np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)),
        )
    )
    batch = collate([one, two])
    assert batch.arrays()["unit_features"].tolist() == [[[5, 6], [0, 0]], [[1, 2], [3, 4]]]
    assert "unit_features" not in collate([window(1, 3)]).arrays()
