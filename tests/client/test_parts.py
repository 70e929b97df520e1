from __future__ import annotations

from dataclasses import replace

import pytest

from tureen.client import codec
from tureen.client.parts import Ledger, Piece, pack, split
from tureen.contracts import Sample, SampleResult, Score, ScoreResponse, Timings
from tureen.errors import BackendFailure, InvalidRequest, Overloaded, PayloadTooLarge

MIB = 2**20


def sample(*responses: str, **fields) -> Sample:
    return Sample(prompt="p", responses=responses, **fields)


def responses(pieces: list[Piece]) -> list[tuple[int, int, tuple[str, ...]]]:
    return [(p.sample_index, p.first_response, p.sample.responses) for p in pieces]


def numbers(parts: list[list[Piece]]) -> list[list[int]]:
    return [[piece.number for piece in part] for part in parts]


class TestSplit:
    def test_small_samples_stay_whole(self):
        whole = sample("a", "b")
        [piece] = split([whole], 2, MIB)
        assert piece.sample is whole

    def test_a_sample_with_more_responses_than_a_call_takes(self):
        many = sample("a", "b", "c", "d", "e", offsets=(((0, 1),), None, None, ((0, 1),), None))
        pieces = split([sample("x"), many], 2, MIB)
        assert responses(pieces) == [
            (0, 0, ("x",)),
            (1, 0, ("a", "b")),
            (1, 2, ("c", "d")),
            (1, 4, ("e",)),
        ]
        assert [p.sample.offsets for p in pieces[1:]] == [
            (((0, 1),), None),
            (None, ((0, 1),)),
            (None,),
        ]

    def test_no_limit_on_responses(self):
        assert len(split([sample(*"abcdef")], None, MIB)) == 1

    def test_by_bytes(self):
        """20 000 bytes hold the envelope of 4 096, so one response of 7 000 and not two of 8 000."""
        long = [letter * 8000 for letter in "ab"]
        pieces = split([sample(*long, "c" * 7000)], None, 20_000)
        assert [[r[0] for r in p.sample.responses] for p in pieces] == [["a"], ["b", "c"]]

    def test_a_single_response_is_never_cut(self):
        [piece] = split([sample("a" * 50_000)], 1, 10_000)
        assert len(piece.sample.responses[0]) == 50_000

    def test_bytes_are_counted_as_sent(self):
        """Two bytes a letter: 5 000 letters are 10 000 bytes, and two such responses are too many."""
        assert len(split([sample("é" * 5000, "é" * 5000)], None, 20_000)) == 2
        assert len(split([sample("e" * 5000, "e" * 5000)], None, 20_000)) == 1

    @pytest.mark.parametrize("text", ["plain", "\x01" * 50, "é\n" * 40, "😀" * 30, ""])
    def test_what_is_not_measured_is_not_underestimated(self, text):
        one = sample(text, text, context=(text,), id=text, offsets=(((0, 123456789),) * 9, None))
        [piece] = split([one], None, MIB)
        assert piece.size_bytes >= len(codec.write(one))

    def test_offsets_of_the_wrong_length_are_left_to_the_server(self):
        pieces = split([sample("a" * 9000, "b" * 9000, offsets=(None,))], None, 10_000)
        assert [len(p.sample.responses) for p in pieces] == [1, 1]


class TestPack:
    def test_by_responses(self):
        pieces = split([sample("a"), sample("b", "c"), sample("d"), sample("e")], 3, MIB)
        assert numbers(pack(pieces, 3, MIB)) == [[0, 1], [2, 3]]

    def test_by_bytes(self):
        pieces = split([sample("a" * 5000) for _ in range(3)], None, 15_000)
        assert numbers(pack(pieces, None, 15_000)) == [[0, 1], [2]]

    def test_alone(self):
        pieces = split([sample("a") for _ in range(4)], 9, MIB)
        assert numbers(pack(pieces, 9, MIB, alone={1})) == [[0], [1], [2, 3]]


def answer(*rewards: float | None, fingerprint: str = "one", **fields) -> ScoreResponse:
    """One sample of one response a reward; None is an error that stays."""
    results = tuple(
        SampleResult(error=InvalidRequest("bad", field="responses[0]").info())
        if reward is None
        else SampleResult(scores=(Score(reward=reward, heads={}, tokens=1),))
        for reward in rewards
    )
    return ScoreResponse(model="m", fingerprint=fingerprint, soup="s", results=results, **fields)


class TestLedger:
    """Three samples of one response: pieces 0, 1, 2."""

    samples = (sample("a", id="x"), sample("b"), sample("c", id="z"))

    def ledger(self) -> Ledger:
        return Ledger(split(self.samples, None, MIB))

    def open(self, ledger: Ledger) -> list[int]:
        return [piece.number for piece in ledger.open()]

    def test_all_at_once(self):
        ledger = self.ledger()
        assert ledger.take([ledger.open()], [answer(1.0, None, 3.0)])
        assert self.open(ledger) == []
        merged = ledger.merged(self.samples)
        assert [r.id for r in merged.results] == ["x", None, "z"]
        assert [r.scores and r.scores[0].reward for r in merged.results] == [1.0, None, 3.0]
        assert merged.results[1].error is not None

    def test_a_passing_failure_leaves_its_part_open(self):
        ledger = self.ledger()
        a, b, c = ledger.open()
        assert ledger.take([[a, b], [c]], [Overloaded("busy", retry_after_s=2.0), answer(3.0)])
        assert self.open(ledger) == [0, 1]
        assert [e.retry_after_s for e in ledger.passing()] == [2.0, 2.0]

    def test_nothing_new_is_no_progress(self):
        ledger = self.ledger()
        assert ledger.take([ledger.open()], [Overloaded("busy")]) is False

    def test_what_was_refused_in_company_is_asked_alone_once_others_were_scored(self):
        ledger = self.ledger()
        a, b, c = ledger.open()
        ledger.take([[a, b], [c]], [InvalidRequest("bad"), answer(3.0)])
        assert (self.open(ledger), ledger.alone) == ([0, 1], {0, 1})
        ledger.take([[a], [b]], [InvalidRequest("bad"), answer(2.0)])
        assert self.open(ledger) == []

    def test_what_was_refused_as_a_whole_stays_refused(self):
        ledger = self.ledger()
        ledger.take([ledger.open()], [InvalidRequest("bad")])
        assert self.open(ledger) == []

    def test_what_was_too_large_together_is_asked_alone(self):
        ledger = self.ledger()
        ledger.take([ledger.open()], [PayloadTooLarge("large")])
        assert self.open(ledger) == [0, 1, 2]

    def test_scores_of_replaced_weights_are_open_again(self):
        ledger = self.ledger()
        a, b, c = ledger.open()
        ledger.take([[a, b], [c]], [answer(1.0, 2.0), answer(3.0, fingerprint="two")])
        assert self.open(ledger) == [0, 1]
        assert len(ledger.provenances()) == 2
        ledger.take([[a, b]], [answer(1.5, 2.5, fingerprint="two")])
        assert self.open(ledger) == []
        assert ledger.merged(self.samples).fingerprint == "two"

    def test_timings_add_up_as_work_and_overlap_as_waiting(self):
        ledger = self.ledger()
        a, b, c = ledger.open()
        one = Timings(tokenize_ns=1, queue_ns=10, forward_ns=100, total_ns=1000)
        two = Timings(tokenize_ns=2, queue_ns=5, forward_ns=200, total_ns=3000)
        ledger.take([[a], [b, c]], [answer(1.0, timings=one), answer(2.0, 3.0, timings=two)])
        assert ledger.merged(self.samples).timings == Timings(
            tokenize_ns=3, queue_ns=10, forward_ns=300, total_ns=3000
        )

    @pytest.mark.parametrize(
        "wrong",
        [
            answer(1.0, 2.0),  # two results for three samples
            answer(1.0, 2.0, float("nan")),
            replace(answer(1.0, 2.0, 3.0), results=(SampleResult(scores=()),) * 3),
            replace(answer(1.0, 2.0, 3.0), results=(SampleResult(),) * 3),
        ],
    )
    def test_an_answer_that_does_not_match_is_a_failure(self, wrong):
        ledger = self.ledger()
        ledger.take([ledger.open()], [wrong])
        assert {error.code for error in ledger.failures()} == {BackendFailure.code}

    def test_places_are_the_callers(self):
        """The second piece of a sample begins at its response 2, so its response 0 is that one."""
        many = [sample("a", "b", "")]
        ledger = Ledger(split(many, 2, MIB))
        first, second = ledger.open()
        scores = (Score(reward=1.0, heads={}, tokens=1),) * 2
        fine = ScoreResponse(
            model="m", fingerprint="one", soup="s", results=(SampleResult(scores=scores),)
        )
        ledger.take(
            [[first], [second]],
            [fine, InvalidRequest("responses[0] is empty.", field="responses[0]")],
        )
        [result] = ledger.merged(many).results
        assert (result.scores, result.error and result.error.field) == (None, "responses[2]")
        assert result.error is not None
        assert result.error.message == "responses[2] is empty."

    def test_places_of_a_request_are_the_callers(self):
        ledger = self.ledger()
        a, b, c = ledger.open()
        error = InvalidRequest("samples[1].prompt is empty.", field="samples[1].prompt")
        ledger.take([[a], [b, c]], [answer(1.0), error])
        assert [e.field for e in ledger.failures()] == ["samples[2].prompt"] * 2
