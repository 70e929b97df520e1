import pico_tokenizers
from pico import HEADS

from tureen.text.encoding import TextEncoder
from tureen.text.template import TextSpec
from tureen_training.data.items import Item, encode
from tureen_training.data.records import Example
from tureen_training.data.schedule import epoch_of, with_one_window

SPEC = TextSpec(
    template="pair",
    max_input_tokens=64,
    max_windows=9,
    response_pooling="mean",
    unit_pooling="mean",
)
ENCODER = TextEncoder(pico_tokenizers.bert_like(), SPEC)
SHORT, LONG = (
    "the cat.",
    "the cat and the dog like the river and the sky at night by the sea of light.",
)


def item(name: str, sentences: int, *responses: str) -> Item:
    """With a context of so many sentences of 9 tokens."""
    context = ("the dog and the cat like the river.",) * sentences
    example = Example(
        prompt_id=name, origin="own", prompt="what?", context=context, responses=responses
    )
    return encode(example, ENCODER, HEADS)


def place(given: Item, drawn: Item, response: int = 0) -> int:
    """Which of its windows a response was left with."""
    (only,) = drawn.responses[response].windows
    windows = given.responses[response].windows
    return next(index for index, window in enumerate(windows) if window is only)


SOURCES = {
    "a": [item(f"a{i}", 20, SHORT) for i in range(10)],
    "b": [item(f"b{i}", 1, SHORT) for i in range(4)],
}


def epoch(number: int, seed: int = 0, *, one_window: bool = False) -> list[list[Item]]:
    return epoch_of(
        SOURCES,
        {"a": 0.5, "b": 1.25},
        prompts_per_step=3,
        one_window=one_window,
        seed=seed,
        epoch=number,
    )


def names(steps: list[list[Item]]) -> list[str]:
    return [item.example.prompt_id for step in steps for item in step]


def test_shares_are_drawn_anew_in_each_epoch():
    first, second = names(epoch(0)), names(epoch(1))
    for drawn in (first, second):
        assert len([name for name in drawn if name.startswith("a")]) == 5
        assert len(set(drawn)) == 9  # five of a, all of b
        assert len(drawn) == 10  # and one of b again
    assert set(first) != set(second)


def test_steps_are_full_but_the_last():
    assert [len(step) for step in epoch(0)] == [3, 3, 3, 1]


def test_an_epoch_is_a_function_of_seed_and_number():
    assert names(epoch(1)) == names(epoch(1))
    assert names(epoch(1)) != names(epoch(1, seed=1))


def test_one_window_is_another_one_each_time():
    whole = {given.example.prompt_id: given for items in SOURCES.values() for given in items}
    count = len(whole["a0"].responses[0].windows)
    assert 3 <= count <= 5
    seen = set()
    for number in range(20):  # at most five windows, 100 draws: one is missed with odds of 10^-9
        for step in epoch(number, one_window=True):
            for drawn in step:
                if drawn.example.prompt_id.startswith("a"):
                    seen.add(place(whole[drawn.example.prompt_id], drawn))
    assert seen == set(range(count))


def test_all_responses_see_the_same_part_of_the_context():
    given = item("q", 20, SHORT, SHORT, LONG)
    counts = [len(response.windows) for response in given.responses]
    assert counts[2] > counts[0]  # a longer response leaves less room
    for where in (0.0, 0.6, 0.999):
        drawn = with_one_window(given, where)
        places = [place(given, drawn, k) for k in range(3)]
        assert places == [int(where * count) for count in counts]
    assert [len(response.windows) for response in given.responses] == counts
