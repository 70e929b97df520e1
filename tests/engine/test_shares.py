"""Whose batch is next: the order of batches, by hand arithmetic over their seconds."""

from tureen.contracts import Priority
from tureen.engine.shares import Claim, Shares

BULK, INTERACTIVE = Priority.BULK, Priority.INTERACTIVE


class Device:
    """Models that always have work; a batch of each takes the seconds given."""

    def __init__(self, seconds: dict[str, float], borrow_s: float = 0.0, **lanes: Priority) -> None:
        self.shares = Shares(borrow_s)
        self.seconds, self.lanes = seconds, lanes
        self.last = dict.fromkeys(seconds, 0)

    def run(self, batches: int) -> str:
        order = ""
        for _ in range(batches):
            names = list(self.seconds)
            place = self.shares.next(
                [Claim(name, self.lanes.get(name, BULK), self.last[name]) for name in names]
            )
            turn = self.shares.begin(names[place], 100)
            self.last[names[place]] = turn.number
            self.shares.end(turn, self.seconds[names[place]])
            order += names[place]
        return order


def test_equal_batches_take_turns():
    assert Device({"a": 1.0, "b": 1.0}).run(6) == "ababab"


def test_time_is_shared_and_not_batches():
    # Tags of a and b before each batch: 0 0, 3 0, 3 1, 3 2, 3 3 (b was served later: a), 6 3, …
    assert Device({"a": 3.0, "b": 1.0}).run(12) == "abbbabbbabbb"


def test_three_models_with_batches_of_three_lengths():
    # Tags (a, b, c): 000 a 400 b 420 c 421 c 422 b 442 c 443 c 444, and then the same again.
    assert Device({"a": 4.0, "b": 2.0, "c": 1.0}).run(14) == "abccbccabccbcc"


def test_interactive_work_borrows_so_much_and_no_more():
    # a is interactive, and its tag counts 2 less: -2 0, -1 0, then a tie at 0 0: b was served less
    # lately. From then on a is 2 ahead, and each has its half.
    assert Device({"a": 1.0, "b": 1.0}, borrow_s=2.0, a=INTERACTIVE).run(8) == "aabababa"


def test_two_of_one_lane_borrow_nothing_from_each_other():
    both = Device({"a": 3.0, "b": 1.0}, borrow_s=2.0, a=INTERACTIVE, b=INTERACTIVE)
    assert both.run(8) == "abbbabbb"


def test_who_had_nothing_to_do_is_owed_nothing():
    device = Device({"a": 1.0})
    assert device.run(100) == "a" * 100
    device.seconds["b"], device.last["b"] = 1.0, 0
    device.shares.arrive("b", {"a"})
    assert device.shares.tag_s("b") == 100.0
    assert device.run(4) == "baba"


def test_work_that_comes_to_an_idle_device_begins_where_all_stood():
    shares = Shares()
    shares.end(shares.begin("a", 1), 50.0)
    shares.end(shares.begin("b", 1), 0.0)  # begins at 50, as the latest
    shares.end(shares.begin("a", 1), 7.0)
    shares.arrive("b", ())
    assert (shares.tag_s("a"), shares.tag_s("b")) == (57.0, 57.0)


def test_what_is_on_the_device_counts_before_it_is_done_and_is_corrected_then():
    shares = Shares()
    shares.end(shares.begin("a", 100), 2.0)  # 0.02 s a token
    turn = shares.begin("a", 200)
    assert (turn.estimate_s, shares.tag_s("a")) == (4.0, 6.0)
    shares.end(turn, 1.0)
    assert shares.tag_s("a") == 3.0
    assert shares.begin("a", 200).estimate_s == 1.0
