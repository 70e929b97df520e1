"""TRL's own trainers with a tiny random policy against a running server, and its calls by hand."""

from __future__ import annotations

import asyncio
import inspect
from types import SimpleNamespace

import pico_tokenizers
import pytest
from server_process import serving

from tureen import RewardClient
from tureen.adapters import shared, trl
from tureen.adapters.shared import Unscored

HEADS = ("factuality", "relevance", "completeness")
FUNCTIONS = (trl.overall, trl.factuality, trl.relevance, trl.completeness)


def gather(*functions, **call):
    """As `GRPOTrainer._calculate_rewards` calls them."""

    async def run():
        return await asyncio.gather(*(one(**call) for one in functions))

    return asyncio.run(run())


class TestByHand:
    def test_texts_and_what_the_heads_say(self, service, score):
        call = {
            "prompts": ["p", "q"],
            "completions": ["one.", "two. And three."],
            "completion_ids": [[1], [2]],
            "context": [["c", "d"], "e"],
            "trainer_state": None,
        }
        overall, *heads = gather(*FUNCTIONS, **call)
        expected = [
            score("one.", prompt="p", context=("c", "d")),
            score("two. And three.", prompt="q", context=("e",)),
        ]
        assert overall == [one.reward for one in expected]
        assert heads == [[one.heads[name].calibrated for one in expected] for name in HEADS]

    def test_messages(self, service, score):
        """After a tool was called, the last message is the response."""
        asked = {"role": "user", "content": "q"}
        called = {"role": "assistant", "content": "let me see"}
        found = {"role": "tool", "content": "42"}
        answered = {"role": "assistant", "content": "It is 42."}
        [rewards] = gather(
            trl.overall,
            prompts=[[asked], [asked]],
            completions=[[answered], [called, found, answered]],
            completion_ids=[[], []],
        )
        assert rewards == [
            score("It is 42.", messages=shared.sample_of(turns, "").messages).reward
            for turns in ([asked], [asked, called, found])
        ]

    def test_what_cannot_be_scored_is_none_everywhere(self, service):
        extra, metrics = {}, {}
        found = gather(
            *FUNCTIONS,
            prompts=["p", "p"],
            completions=["", "r"],
            completion_ids=[[], []],
            log_extra=lambda name, values: extra.setdefault(name, []).extend(values),
            log_metric=lambda name, value: metrics.setdefault(name, []).append(value),
        )
        assert [rewards[0] for rewards in found] == [None] * 4
        assert all(isinstance(rewards[1], float) for rewards in found)
        assert extra == {"unscorable": ["invalid_request", ""]}
        assert metrics["oracle/unscorable_frac"] == [0.5]
        assert len(metrics["oracle/reward_std"]) == 1

    def test_one_request_for_all_functions_of_a_call(self, service, monkeypatch):
        batches = []
        submit = shared.gathered().oracle.submit
        monkeypatch.setattr(
            shared.gathered().oracle, "submit", lambda s: (batches.append(s), submit(s))[1]
        )
        call = {"prompts": ["p"], "completions": ["r"], "completion_ids": [[1]]}
        first = gather(*FUNCTIONS, **call)
        assert len(batches) == 1
        again = gather(*FUNCTIONS, **{**call, "completions": ["r"]})
        assert (len(batches), again) == (2, first)

    def test_trainers_that_take_no_coroutine(self, service, score):
        assert not inspect.iscoroutinefunction(trl.overall_sync)
        assert trl.overall_sync(["p"], ["r"]) == [score("r", prompt="p").reward]
        with pytest.raises(Unscored):
            trl.overall_sync(["p", "p"], ["r", ""])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of TRL and what it stands on
class TestItsTrainers:
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def server(cls):
        with serving() as running:
            yield running

    @pytest.fixture
    def policy(self):
        transformers = pytest.importorskip("transformers")
        tokenizer = pico_tokenizers.chat()
        config = transformers.LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        transformers.set_seed(0)
        return SimpleNamespace(model=transformers.LlamaForCausalLM(config), tokenizer=tokenizer)

    @pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
    @pytest.mark.parametrize("chat", [False, True], ids=["text", "messages"])
    def test_a_few_steps(self, kind, chat, server, policy, monkeypatch, tmp_path):
        """What the trainer logs is the mean of what the server says of the very completions."""
        upstream = pytest.importorskip("trl", reason="needs tureen[training]")
        from datasets import Dataset

        monkeypatch.setenv("TUREEN_URL", server.target)
        seen: list[tuple] = []

        def record(prompts, completions, context, **columns):
            seen.append((list(prompts), list(completions), list(context)))
            return [None] * len(prompts)  # beside overall it adds nothing

        prompts = [f"Question {n}?" for n in range(4)]
        rows = {
            "prompt": [[{"role": "user", "content": p}] for p in prompts] if chat else prompts,
            "context": [[f"Passage {n}."] for n in range(4)],
        }
        config = getattr(upstream, f"{kind}Config")(
            output_dir=str(tmp_path),
            max_steps=2,
            per_device_train_batch_size=4,
            num_generations=2,
            max_completion_length=8,
            logging_steps=1,
            learning_rate=1e-3,
            beta=0.0,
            use_cpu=True,
            bf16=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        before = {name: p.clone() for name, p in policy.model.named_parameters()}
        trainer = getattr(upstream, f"{kind}Trainer")(
            model=policy.model,
            reward_funcs=[trl.overall, record],
            args=config,
            train_dataset=Dataset.from_dict(rows),
            processing_class=policy.tokenizer,
        )
        trainer.train()
        shared.gathered().oracle.close()
        shared._connected.cache_clear()

        logged = [row for row in trainer.state.log_history if "rewards/overall/mean" in row]
        assert len(logged) == len(seen) == 2
        with RewardClient(server.url) as client:
            for row, (asked, completed, contexts) in zip(logged, seen, strict=True):
                samples = trl.samples_of(asked, completed, {"context": contexts})
                results = client.score_samples(samples, uncertainty=True).results
                scored = [result.scores[0].reward for result in results if result.scores]
                assert row["rewards/overall/mean"] == pytest.approx(
                    sum(scored) / len(scored), abs=1e-5
                )
                assert row["oracle/unscorable_frac"] == 1 - len(scored) / len(results)
        assert any(not p.equal(before[name]) for name, p in policy.model.named_parameters())
