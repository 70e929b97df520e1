"""Runs of the stage `sft` that take a few seconds, through TRL's own trainer."""

import json
from pathlib import Path

import pico_tokenizers
import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from tureen_training import sft
from tureen_training.data.jsonl import BadData, records
from tureen_training.policies import (
    Sampling,
    TinySpec,
    end_id,
    fingerprint_of,
    load_policy,
    pad_id,
    prompt_ids,
    sample,
)
from tureen_training.sft import Config, encode
from tureen_training.worlds.almanac.dataset import tokenizer_of

COLOURS = ("red", "blue", "green", "grey")
THINGS = ("dog", "cat", "door", "boat")
RECORDS = [
    {
        "id": f"{colour}-{thing}",
        "prompt": f"which {thing}?",
        "context": [f"The {thing} is {colour}."],
        "response": f"The {thing} is {colour}.",
    }
    for colour in COLOURS
    for thing in THINGS
]


def written(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def config(root: Path, **changes) -> Config:
    texts = [f" {t}" for row in RECORDS for t in (*row["context"], row["prompt"])]
    tokenizer_of(["Passages:\nQuestion:\nAnswer:", *texts]).save_pretrained(root / "tokenizer")
    options = {
        "data": (written(root / "sft.jsonl", RECORDS),),
        "out": str(root / "policy"),
        "tiny": TinySpec(layers=2, width=32, heads=2, context_tokens=48),
        "tokenizer": str(root / "tokenizer"),
        "learning_rate": 1e-2,
        "prompts_per_step": 8,
        "epochs": 12,
        "threads": 1,
    }
    return Config(**options | changes)


def events(out: str, name: str) -> list[dict]:
    lines = Path(out + ".run", "metrics.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == name]


def test_a_policy_learns_its_demonstrations_and_says_where_it_comes_from(tmp_path):
    data = (
        written(tmp_path / "sft.jsonl", RECORDS),
        written(tmp_path / "t.jsonl", [{"text": "The dog."}]),
    )
    given = config(tmp_path, data=data, validation=data[:1], epochs=25)
    sft.main(given)
    policy = load_policy(given.out)
    prompts = [prompt_ids(policy.tokenizer, row["prompt"], row["context"]) for row in RECORDS]
    said = sample(policy, prompts, Sampling(max_new_tokens=8, temperature=0), seed=0)
    things = [
        row["response"].split()[1] == s.text.split()[1]
        for row, s in zip(RECORDS, said, strict=True)
    ]
    assert sum(things) >= 14  # by chance 4 of 16
    losses = [event["eval_loss"] for event in events(given.out, "epoch")]
    assert len(losses) == 25
    assert losses[-1] < losses[0] / 3
    lineage = policy.lineage
    assert lineage["stage"] == "sft"
    assert lineage["base"]["layers"] == 2
    assert set(lineage["data"]) == {"sft.jsonl", "t.jsonl"}
    assert lineage["fingerprint"] == fingerprint_of(policy)
    assert not Path(given.out + ".run", "checkpoints").exists()

    # and from there on, by path
    further = config(
        tmp_path, policy=given.out, tiny=None, tokenizer="", out=str(tmp_path / "two"), epochs=1
    )
    sft.main(further)
    assert load_policy(further.out).lineage["base_lineage"]["fingerprint"] == lineage["fingerprint"]


def test_a_run_cut_short_goes_on_to_the_same_policy(tmp_path, monkeypatch):
    whole = config(tmp_path, out=str(tmp_path / "whole"), epochs=3, state_steps=1)
    sft.main(whole)

    class Cut(RuntimeError):
        pass

    save = sft._Watch.on_save

    def cut(self, args, state, control, **rest):
        if state.global_step == 4:  # its checkpoint is written and not yet marked
            raise Cut
        save(self, args, state, control, **rest)

    broken = config(tmp_path, out=str(tmp_path / "broken"), epochs=3, state_steps=1)
    with monkeypatch.context() as patch:
        patch.setattr(sft._Watch, "on_save", cut)
        with pytest.raises(Cut):
            sft.main(broken)
    last = sft.last_checkpoint(Path(broken.out + ".run", "checkpoints"))
    assert last is not None
    assert last.name == "checkpoint-3"
    changed = config(tmp_path, out=broken.out, epochs=3, learning_rate=1e-3)
    with pytest.raises(ValueError, match="other learning_rate"):
        sft.main(changed)
    sft.main(broken)
    assert fingerprint_of(load_policy(broken.out)) == fingerprint_of(load_policy(whole.out))
    one, other = ([e["loss"] for e in events(run.out, "step")] for run in (whole, broken))
    assert one == other
    assert len(one) == 6


def test_only_the_response_is_imitated(tmp_path):
    path = written(tmp_path / "a.jsonl", [RECORDS[0], {"text": "The dog."}])
    tokenizer = pico_tokenizers.byte_bpe()
    demonstration, text = (encode(fields, tokenizer) for fields in records(Path(path)))
    imitated = [i for i in demonstration["labels"] if i != -100]
    assert tokenizer.decode(imitated) == " The dog is red.</s>"
    assert demonstration["input_ids"][-len(imitated) :] == imitated
    assert tokenizer.decode(text["labels"]) == "<s>The dog.</s>"  # its own end of text, not two
    asked = demonstration["input_ids"][: -len(imitated)]
    assert tokenizer.decode(asked).count("</s>") == 0
    assert text["labels"] == text["input_ids"]


def test_a_chat_model_goes_through(tmp_path):
    tokenizer = pico_tokenizers.chat()
    base = pico_tokenizers.save(tokenizer, tmp_path / "base")
    torch.manual_seed(0)
    Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            max_position_embeddings=256,
            eos_token_id=end_id(tokenizer),
            pad_token_id=pad_id(tokenizer),
        )
    ).save_pretrained(base)
    rows = [
        {
            "messages": [{"role": "user", "content": row["prompt"]}],
            "context": row["context"],
            "response": row["response"],
        }
        for row in RECORDS
    ]
    data = (written(tmp_path / "chat.jsonl", rows),)
    given = config(tmp_path, policy=str(base), tiny=None, tokenizer="", data=data, epochs=2)
    sft.main(given)
    before = AutoModelForCausalLM.from_pretrained(base).state_dict()
    policy = load_policy(given.out)
    assert any(not torch.equal(before[n], t) for n, t in policy.model.state_dict().items())
    assert policy.tokenizer.chat_template == tokenizer.chat_template
    (said,) = sample(
        policy, [prompt_ids(policy.tokenizer, "which dog?")], Sampling(max_new_tokens=4), seed=0
    )
    assert len(said.token_ids) == len(said.offsets) <= 4


def test_what_is_too_long_is_left_out_and_counted(tmp_path):
    long = {**RECORDS[0], "prompt": "which dog? " * 20}
    given = config(tmp_path, data=(written(tmp_path / "l.jsonl", [*RECORDS, long]),), epochs=1)
    sft.main(given)
    assert events(given.out, "data")[0]["too_long"] == 1
    only = config(tmp_path, data=(written(tmp_path / "m.jsonl", [long]),), out=str(tmp_path / "x"))
    with pytest.raises(ValueError, match="has over 48 tokens"):
        sft.main(only)


def test_bad_records_name_file_and_line(tmp_path):
    path = written(tmp_path / "bad.jsonl", [RECORDS[0], {"prompt": "which?"}])
    with pytest.raises(BadData, match=r"bad\.jsonl:2: field 'response' is missing"):
        sft.encode_files([path], pico_tokenizers.byte_bpe(), 100)
    chat = written(
        tmp_path / "c.jsonl", [{"messages": [{"role": "user", "content": "a"}], "response": "b"}]
    )
    with pytest.raises(BadData, match="chat template"):
        sft.encode_files([chat], pico_tokenizers.byte_bpe(), 100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tiny": None}, "exactly one of policy and tiny"),
        ({"tokenizer": ""}, "give both or neither"),
        ({"data": ()}, "at least one file"),
        ({"epochs": 0}, "must be 1 or more"),
        ({"warmup": 1.0}, r"in \[0, 1\)"),
    ],
)
def test_configs_that_make_no_sense(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **options)


def test_a_step_splits_evenly(tmp_path):
    with pytest.raises(ValueError, match="must be a multiple of 1 processes × accumulate 3"):
        sft.main(config(tmp_path, accumulate=3))
