from tureen_training.data.focus import focus, sentences_of, share, words_of

CONTEXT = (
    "The tower stands on a cliff. It was built in 1871.",
    "Gulls nest below. A ferry crosses twice daily in summer.",
)


def test_what_the_responses_say_is_kept_in_order():
    kept = focus(CONTEXT, ["It was built in 1871.", "A ferry crosses in summer."], max_words=12)
    assert kept == ("It was built in 1871.", "A ferry crosses twice daily in summer.")


def test_a_passage_without_a_sentence_left_is_dropped():
    assert focus(CONTEXT, ["Gulls nest below."], max_words=3) == ("Gulls nest below.",)
    assert focus(CONTEXT, ["Gulls nest below."], max_words=0) == ()


def test_room_for_all_keeps_all():
    assert focus(CONTEXT, ["Anything."], max_words=100) == CONTEXT


def test_words():
    assert sentences_of(" One  here.\nTwo there. ") == ["One here.", "Two there."]
    assert words_of("In 1871 the Tower fell") == {"1871", "tower", "fell"}
    assert share("The tower fell", {"tower"}) == 0.5
    assert share("a b", {"tower"}) == 0.0
