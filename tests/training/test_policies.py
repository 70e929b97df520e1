"""Policies: what they read, what they write, and which characters each token brought."""

import dataclasses

import pico_tokenizers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tureen.contracts import Message
from tureen_training.evaluation.language_models import open_language_model
from tureen_training.policies import (
    Sampling,
    TinySpec,
    as_sampled,
    end_id,
    fingerprint_of,
    left_padded,
    load_policy,
    load_tokenizer,
    prompt_ids,
    response_ids,
    sample,
    save_policy,
    tiny_policy,
)
from tureen_training.worlds.almanac.dataset import tokenizer_of

TINY = TinySpec(layers=2, width=16, heads=2, context_tokens=64)
WORDS = tokenizer_of(["Passages: a dog.\nQuestion: who?\nAnswer: a red dog. It is red."])


@pytest.fixture(scope="module")
def policy():
    return tiny_policy(TINY, WORDS, seed=0)


@pytest.mark.parametrize("convolution", [0, 3])
def test_padding_at_the_left_changes_nothing(convolution):
    spec = dataclasses.replace(TINY, convolution=convolution)
    model = tiny_policy(spec, WORDS, seed=0).model.eval()
    long, short = ids = [WORDS(text)["input_ids"] for text in ("a red dog. It is", "a dog.")]
    padded, mask = left_padded(ids, 0)
    with torch.no_grad():
        both = model(input_ids=padded, attention_mask=mask).logits
        alone = [model(input_ids=torch.tensor([row])).logits[0] for row in (long, short)]
    torch.testing.assert_close(both[0], alone[0])
    torch.testing.assert_close(both[1, -len(short) :], alone[1], atol=1e-5, rtol=1e-5)


def test_a_convolution_needs_attention_above_it():
    assert tiny_policy(
        dataclasses.replace(TINY, convolution=3), WORDS, 0
    ).model.config.layer_types == [
        "conv",
        "full_attention",
    ]
    with pytest.raises(ValueError, match="attention needs a layer"):
        TinySpec(layers=1, convolution=3)


def test_what_a_plain_policy_reads():
    ids = prompt_ids(WORDS, "who?", ["a dog.", "a dog."])
    assert WORDS.decode(ids) == "Passages: a dog. a dog.\nQuestion: who?\nAnswer:"
    assert WORDS.decode(prompt_ids(WORDS, "who?")) == "Question: who?\nAnswer:"
    ids = response_ids(WORDS, "a dog.")
    assert WORDS.convert_ids_to_tokens(ids) == ["Ġa", "Ġdog", ".", "<|end|>"]
    with pytest.raises(ValueError, match="chat template"):
        prompt_ids(WORDS, (Message(role="user", content="who?"),))


def test_what_a_chat_policy_reads():
    tokenizer = pico_tokenizers.chat()
    ids = prompt_ids(tokenizer, "who?", ["a dog."])
    wanted = "<s><|im_start|>user\na dog.\nwho?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(ids) == wanted  # one beginning of sequence, the template's own
    messages = (Message(role="system", content="be kind"), Message(role="user", content="who?"))
    wanted = "<s><|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\na dog.\nwho?<|im_end|>\n"
    wanted += "<|im_start|>assistant\n"
    assert tokenizer.decode(prompt_ids(tokenizer, messages, ["a dog."])) == wanted
    assert tokenizer.decode(response_ids(tokenizer, "a dog.")) == "a dog.</s>"


def test_offsets_are_the_characters_of_the_stripped_text():
    ids = response_ids(WORDS, "a dog. It is red.")
    got = as_sampled(WORDS, ids)
    assert got.text == "a dog. It is red."
    pieces = [got.text[slice(*span)] for span in got.offsets]
    assert pieces == ["a", " dog", ".", " It", " is", " red", ".", ""]
    assert got.ended
    assert not as_sampled(WORDS, ids[:-1]).ended


def test_a_character_belongs_to_the_token_that_completes_it():
    tokenizer = pico_tokenizers.byte_bpe()
    got = as_sampled(tokenizer, tokenizer("é!", add_special_tokens=False)["input_ids"])
    assert got.text == "é!"
    assert got.offsets == ((0, 0), (0, 1), (1, 2))


@settings(deadline=None)
@given(st.lists(st.integers(0, 260), max_size=30))
def test_any_tokens_tile_their_text(ids):
    tokenizer = pico_tokenizers.chat()
    got = as_sampled(tokenizer, ids)
    assert len(got.offsets) == len(got.token_ids) == len(ids)
    edge = 0
    for start, end in got.offsets:
        assert start == edge <= end
        edge = end
    assert edge == len(got.text)


def test_greedy_responses_are_the_argmax_whatever_the_padding(policy):
    prompts = [prompt_ids(WORDS, "who?", ["a dog."] * n) for n in (0, 1, 3)]
    got = sample(policy, prompts, Sampling(max_new_tokens=6, temperature=0), seed=0)
    for prompt, response in zip(prompts, got, strict=True):
        ids = list(prompt)
        while len(ids) < len(prompt) + 6 and ids[-1] != end_id(WORDS):
            with torch.no_grad():
                ids.append(int(policy.model(torch.tensor([ids])).logits[0, -1].argmax()))
        assert list(response.token_ids) == ids[len(prompt) :]


def test_a_seed_is_a_sample_and_torchs_own_state_is_left_alone(policy):
    prompts = [prompt_ids(WORDS, "who?")] * 4
    torch.manual_seed(5)
    state = torch.get_rng_state()
    got = sample(policy, prompts, Sampling(max_new_tokens=8), seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert got == sample(policy, prompts, Sampling(max_new_tokens=8), seed=1)
    assert got != sample(policy, prompts, Sampling(max_new_tokens=8), seed=2)
    assert len({response.token_ids for response in got}) == 4  # 4 equal ones: below 300^-20


def test_samples_follow_the_probabilities_of_the_model(policy):
    prompt = prompt_ids(WORDS, "who?")
    got = sample(policy, [prompt] * 2000, Sampling(max_new_tokens=1), seed=0, batch=500)
    with torch.no_grad():
        wanted = policy.model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
    counts = torch.bincount(torch.tensor([r.token_ids[0] for r in got]), minlength=len(wanted))
    # χ² of n categories has mean n and variance 2n: six standard deviations
    chi2 = float(((counts - 2000 * wanted) ** 2 / (2000 * wanted)).sum())
    assert chi2 < len(wanted) + 6 * (2 * len(wanted)) ** 0.5


def test_a_prompt_must_leave_room(policy):
    with pytest.raises(ValueError, match="together they may be 64"):
        sample(policy, [[5] * 60], Sampling(max_new_tokens=8), seed=0)


def test_a_policy_comes_back_as_it_was(policy, tmp_path):
    save_policy(policy, tmp_path / "p", {"seed": 0})
    loaded = load_policy(tmp_path / "p")
    assert fingerprint_of(loaded) == fingerprint_of(policy)
    assert loaded.lineage == {"seed": 0}
    assert (loaded.context_tokens, loaded.tokenizer.padding_side) == (64, "left")
    assert fingerprint_of(tiny_policy(TINY, WORDS, seed=1)) != fingerprint_of(policy)


def test_a_tokenizer_must_know_where_a_response_ends(tmp_path):
    tokenizer = pico_tokenizers.byte_bpe()
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="no eos_token"):
        load_tokenizer(pico_tokenizers.save(tokenizer, tmp_path))


def test_padding_is_on_the_left_and_masked():
    ids, mask = left_padded([[7, 8], [9]], 0)
    assert ids.tolist() == [[7, 8], [0, 9]]
    assert mask.tolist() == [[True, True], [False, True]]


@pytest.mark.parametrize("options", [{"temperature": -1.0}, {"top_p": 0.0}, {"max_new_tokens": 0}])
def test_sampling_has_limits(options):
    with pytest.raises(ValueError, match="must be"):
        Sampling(**options)


def test_a_model_that_cannot_be_loaded_is_named(tmp_path):
    with pytest.raises(
        OSError, match=rf"'{tmp_path}' cannot be loaded, neither as a directory nor"
    ):
        load_policy(tmp_path)
    with pytest.raises(OSError, match=rf"'{tmp_path}' cannot be loaded"):
        open_language_model(str(tmp_path))
