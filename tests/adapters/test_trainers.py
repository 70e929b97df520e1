"""verl, slime, OpenRLHF and open-instruct: each adapter called as that trainer calls it."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pico_tokenizers
import pytest

from tureen.adapters import open_instruct, openrlhf, slime, verl
from tureen.adapters.shared import Unscored
from tureen.contracts import Message

HEADS = {"preference", "factuality", "relevance", "completeness"}
QUESTION = [{"role": "user", "content": "Who?"}]
ASKED = (Message(role="user", content="Who?"),)
WRITTEN = "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"


def test_importing_an_adapter_imports_no_trainer():
    names = "trl verl slime openrlhf open_instruct"
    code = f"""
import sys
from importlib import import_module
for name in "{names}".split():
    import_module("tureen.adapters." + name)
print(set("{names} ray torch transformers datasets numpy".split()) & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


class TestVerl:
    async def gathered(self, infos: list[dict[str, Any]], responses: list[str], **kwargs: Any):
        """`NaiveRewardManager.run_single` for each sample, side by side."""
        return await asyncio.gather(
            *(
                verl.compute_score(
                    data_source="d",
                    solution_str=response,
                    ground_truth=None,
                    extra_info=info,
                    **kwargs,
                )
                for info, response in zip(infos, responses, strict=True)
            )
        )

    def test_each_sample_has_the_same_keys(self, service, score):
        infos = [
            {"raw_prompt": np.array(QUESTION), "context": np.array(["c", "d"]), "num_turns": 2},
            {"prompt": "Who?"},
        ]
        first, second = asyncio.run(self.gathered(infos, ["She. And he.", "r"], url=service.target))
        expected = score("She. And he.", messages=ASKED, context=("c", "d"))
        assert first["score"] == expected.reward
        assert {name: first[name] for name in HEADS} == {
            name: head.calibrated for name, head in expected.heads.items()
        }
        assert first["reward_std"] == expected.uncertainty.std
        assert first["truncated"] == 0.0
        assert sum(reward for *_, reward in json.loads(first["spans"])) == pytest.approx(
            expected.reward, abs=1e-5
        )
        assert second["score"] == score("r", prompt="Who?").reward
        assert set(first) == set(second)

    def test_its_shape(self):
        assert inspect.iscoroutinefunction(verl.compute_score)
        assert not inspect.iscoroutinefunction(verl.compute_score_sync)

    def test_options_are_reward_kwargs(self, service, score):
        """`penalty` 0 is 0."""
        [found] = asyncio.run(
            self.gathered(
                [{"prompt": "Who?"}],
                ["r"],
                url=service.target,
                aggregation="worst_case",
            )
        )
        assert found["score"] == pytest.approx(score("r", prompt="Who?").uncertainty.low, abs=1e-6)

    def test_without_a_loop(self, service, score):
        found = verl.compute_score_sync("d", "r", None, {"prompt": "Who?"})
        assert found["score"] == score("r", prompt="Who?").reward

    def test_failures_are_raised(self, service):
        with pytest.raises(Unscored):
            asyncio.run(self.gathered([{"prompt": "p"}], [""]))
        with pytest.raises(ValueError, match="neither 'raw_prompt' nor 'prompt' but num_turns:"):
            asyncio.run(self.gathered([{"num_turns": 1}], ["r"]))

    def test_the_reward_manager(self, service, score):
        """It finds the prompt beside extra_info, and decodes what the mask of the response counts."""
        tokenizer = SimpleNamespace(
            decode=lambda ids, skip_special_tokens: "".join(map(chr, ids)) * skip_special_tokens
        )
        item = SimpleNamespace(
            batch={
                "responses": np.array([104, 105, 0, 0]),
                "attention_mask": np.array([1, 1, 1, 1, 1, 0, 0]),
            },
            non_tensor_batch={"raw_prompt": QUESTION, "extra_info": {"context": ["c"]}},
        )
        verl.TureenRewardManager.init_class(None, tokenizer)
        manager = verl.TureenRewardManager(
            None, tokenizer, None, reward_router_address=None, reward_model_tokenizer=None
        )
        found = asyncio.run(manager.run_single([item]))
        expected = score("hi", messages=ASKED, context=("c",)).reward
        assert found["reward_score"] == found["reward_extra_info"]["score"] == expected

    def test_rewards_of_tokens(self, service, score):
        """Each of the policy's tokens has its reward, the end of text among them; together they are the reward."""
        tokenizer = pico_tokenizers.chat()
        text = "She did. And he."
        ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        item = SimpleNamespace(
            batch={
                "responses": np.array([*ids, 0, 0]),
                "attention_mask": np.array([1, 1, *[1] * len(ids), 0, 0]),
            },
            non_tensor_batch={"prompt": "Who?"},
        )
        manager = verl.TureenDenseRewardManager(None, tokenizer)
        found = asyncio.run(manager.run_single([item]))
        expected = score(text, prompt="Who?").reward
        assert found["reward_extra_info"]["score"] == expected
        assert len(found["reward_score"]) == len(ids)
        assert sum(found["reward_score"]) == pytest.approx(expected, abs=1e-5)
        assert sum(reward != 0 for reward in found["reward_score"]) > 1
        data = SimpleNamespace(batch={"responses": np.zeros((2, len(ids) + 2))})
        placed = manager.assemble_rm_scores(data, [found["reward_score"], [1.0, 2.0]])
        assert placed.shape == (2, len(ids) + 2)
        assert placed.sum(1).tolist() == pytest.approx([expected, 3.0], abs=1e-5)
        assert placed[1, :2].tolist() == [1.0, 2.0]

    def test_rewards_of_tokens_need_to_know_where_tokens_are(self, service):
        item = SimpleNamespace(
            batch={"responses": np.array([1]), "attention_mask": np.array([1])},
            non_tensor_batch={"prompt": "Who?"},
        )
        manager = verl.TureenDenseRewardManager(None, SimpleNamespace())
        with pytest.raises(ValueError, match="a slow one"):
            asyncio.run(manager.run_single([item]))


@dataclass
class SlimeSample:
    prompt: Any
    response: str
    metadata: dict[str, Any] | None = None
    label: str | None = None
    reward: Any = None


class TestSlime:
    ARGS = SimpleNamespace(reward_key=None, eval_reward_key=None)

    def test_one_sample(self, service, score):
        """The turn's end that the policy wrote is none of the response's."""
        sample = SlimeSample(QUESTION, "She.<|im_end|>", {"context": ["c"], "kept": 1})
        expected = score("She.", messages=ASKED, context=("c",))
        assert asyncio.run(slime.reward(self.ARGS, sample)) == expected.reward
        assert sample.metadata is not None
        assert sample.metadata["kept"] == 1
        assert sample.metadata["tureen"]["heads"] == {
            name: head.calibrated for name, head in expected.heads.items()
        }

    def test_lists_of_lists(self, service, score):
        samples = [
            [SlimeSample("Who?", "a"), SlimeSample("Who?", "b")],
            [SlimeSample("Who?", "c")],
        ]
        found = asyncio.run(slime.reward(self.ARGS, samples))
        one = {text: score(text, prompt="Who?").reward for text in "abc"}
        assert found == [[one["a"], one["b"]], [one["c"]]]

    def test_a_dictionary_where_a_key_picks_from_it(self, service, score):
        args = SimpleNamespace(reward_key="factuality", eval_reward_key=None)
        found = asyncio.run(slime.reward(args, SlimeSample("Who?", "a")))
        assert set(found) == {"reward", *HEADS}
        assert found["reward"] == score("a", prompt="Who?").reward
        alone = SimpleNamespace(reward_key=None, eval_reward_key="factuality")
        with pytest.raises(ValueError, match="--eval-reward-key needs --reward-key"):
            asyncio.run(slime.reward(alone, SlimeSample("Who?", "a")))

    def test_a_prompt_in_the_layout_of_the_policy(self, service, score):
        """It is refused, unless the conversation rides along."""
        with pytest.raises(ValueError, match="written out with a chat template"):
            asyncio.run(slime.reward(self.ARGS, SlimeSample(WRITTEN, "She.<|im_end|>")))
        sample = SlimeSample(WRITTEN, "She.<|im_end|>", {"messages": QUESTION})
        expected = score("She.", messages=ASKED).reward
        assert asyncio.run(slime.reward(self.ARGS, sample)) == expected

    def test_failures_are_raised(self, service):
        with pytest.raises(Unscored):
            asyncio.run(slime.reward(self.ARGS, [SlimeSample("p", "r"), SlimeSample("p", "")]))


class TestOpenrlhf:
    @pytest.fixture
    def reward_func(self):
        """Loaded by the path that the command prints."""
        command = [sys.executable, "-m", "tureen.adapters.openrlhf"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        path = Path(done.stdout.strip())
        assert path == Path(openrlhf.__file__)
        spec = importlib.util.spec_from_file_location("reward_func", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.reward_func

    def test_called_positionally_in_a_thread(self, service, score, reward_func):
        async def call(query, prompt, label):
            return await asyncio.to_thread(reward_func, [query], [prompt], [label])

        found = asyncio.run(call("Who? She.</s>", "Who? ", "42"))
        expected = score("She.", prompt="Who? ")
        assert found["rewards"] == found["scores"] == [expected.reward]
        assert found["extra_logs"] == {
            name: [head.calibrated] for name, head in expected.heads.items()
        }

    def test_what_rides_along_in_the_label(self, service, score):
        label = json.dumps({"messages": QUESTION, "context": ["c"]})
        found = openrlhf.reward_func([f"{WRITTEN}She.<|im_end|>"], [WRITTEN], [label])
        assert found["rewards"] == [score("She.", messages=ASKED, context=("c",)).reward]

    def test_nothing_is_nothing(self, service):
        empty = {"rewards": [], "scores": [], "extra_logs": {}}
        assert openrlhf.reward_func([], [], []) == empty

    def test_failures_are_raised(self, service):
        with pytest.raises(Unscored):
            openrlhf.reward_func(["Who?</s>"], ["Who?"], [""])
        with pytest.raises(ValueError, match="does not begin with its prompt"):
            openrlhf.reward_func(["Whom? She."], ["Who?"], [""])


class TestOpenInstruct:
    @pytest.fixture
    def upstream(self, monkeypatch):
        """What `open_instruct.ground_truth_utils` has of it: the base, the result, the discovery."""

        class VerifierFunction:
            def __init__(self, name, weight=1.0, verifier_config=None):
                self.name, self.weight, self.verifier_config = name, weight, verifier_config

        @dataclass
        class VerificationResult:
            score: float
            cost: float = 0.0
            reasoning: str | None = None

        def build_all_verifiers(config):
            built = [kind(config) for kind in VerifierFunction.__subclasses__()]
            return {verifier.name.lower(): verifier for verifier in built}

        module: Any = ModuleType("open_instruct.ground_truth_utils")
        module.VerifierFunction = VerifierFunction
        module.VerificationResult = VerificationResult
        module.build_all_verifiers = build_all_verifiers
        package: Any = ModuleType("open_instruct")
        package.ground_truth_utils = module
        monkeypatch.setitem(sys.modules, "open_instruct", package)
        monkeypatch.setitem(sys.modules, "open_instruct.ground_truth_utils", module)
        return module

    def test_it_is_found_and_called(self, service, score, upstream):
        assert open_instruct.install() is open_instruct.install()
        verifier = upstream.build_all_verifiers("config")["tureen"]
        assert (verifier.weight, verifier.verifier_config) == (1.0, "config")
        call = {"tokenized_prediction": [1], "prediction": "She.", "query": "Who?"}
        expected = score("She.", prompt="Who?").reward
        waited = verifier(**call, label="42", rollout_state=None)
        awaited = asyncio.run(verifier.async_call(**call, label="42", rollout_state=None))
        assert waited == awaited
        assert (waited.score, waited.cost) == (expected, 0.0)
        assert "factuality" in waited.reasoning
        label = json.dumps({"messages": QUESTION, "context": ["c"]})
        assert verifier(**call, label=label).score == (
            score("She.", messages=ASKED, context=("c",)).reward
        )

    def test_failures_are_raised(self, service, upstream):
        verifier = open_instruct.install()()
        with pytest.raises(Unscored):
            verifier([1], "", "42", "Who?")
        with pytest.raises(ValueError, match="passed no query"):
            verifier([1], "She.", "42")
