"""Stage `sft`: a policy that imitates demonstrations, through TRL's SFTTrainer.

Any causal language model by name or path, or a tiny one of random weights. The same stage makes the pretrained base of
a small world: records of plain text train every token, records with a response train the tokens of the response alone.

Killed at any moment, the same command goes on from the trainer's last checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PreTrainedTokenizerFast,
    PrinterCallback,
    TrainerCallback,
    TrainerState,
)

from tureen.model.files import sha256_file, write_atomically
from tureen_training import resume
from tureen_training.data.jsonl import Fields, records
from tureen_training.data.own import read_prompt
from tureen_training.lineage import begun_from
from tureen_training.policies import (
    Policy,
    TinySpec,
    end_id,
    fingerprint_of,
    load_policy,
    load_tokenizer,
    prompt_ids,
    response_ids,
    save_policy,
    tiny_policy,
    whole_ids,
)
from tureen_training.runlog import ReportTo, RunLog, accelerator_for, progress

IGNORED = -100
"""Label of a token that is read and not imitated."""
MARK = "whole.json"
LOGGED_STEPS = 100  # about so many points has the curve of the loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Fine-tune a policy on demonstrations, or train a small one on text.

    data: JSON Lines files. A record is {prompt or messages, context?, response} or {text}; ids and other fields
        are not read. out: directory of the policy; log and checkpoints lie beside it, in `out`.run.
    policy: the causal language model to begin from, by name or path; or
    tiny, tokenizer: a model of random weights, and the directory of its tokenizer.
    validation: files of the same kind, whose loss is logged after each epoch.
    max_tokens: of a record; longer ones are left out and counted, never cut. 0 is what the model can read.
    learning_rate: decays linearly to 0 after `warmup`, a share of the steps.
    prompts_per_step: records of one update, over all processes; accumulate: in how many forward passes.
    state_steps: a state to resume from is kept after so many steps; 0 is after each epoch.
    report_to: none, tensorboard or trackio, beside metrics.jsonl. threads: of torch, 0 its own choice.
    """

    data: tuple[str, ...]
    out: str
    policy: str = ""
    tiny: TinySpec | None = None
    tokenizer: str = ""
    validation: tuple[str, ...] = ()
    max_tokens: int = 0
    epochs: int = 1
    learning_rate: float = 1e-5
    weight_decay: float = 0.0
    warmup: float = 0.05
    prompts_per_step: int = 32
    accumulate: int = 1
    seed: int = 0
    state_steps: int = 0
    report_to: ReportTo = "none"
    threads: int = 0

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("data is empty; give at least one file")
        if bool(self.policy) == bool(self.tiny):
            raise ValueError("give exactly one of policy and tiny")
        if bool(self.tokenizer) != bool(self.tiny):
            raise ValueError("tokenizer belongs to tiny: give both or neither")
        for option in ("epochs", "prompts_per_step", "accumulate"):
            if getattr(self, option) < 1:
                raise ValueError(f"{option} is {getattr(self, option)}; it must be 1 or more")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is {self.warmup}; it must be in [0, 1)")
        if self.state_steps < 0 or self.max_tokens < 0:
            raise ValueError("state_steps and max_tokens must be 0 or more")


def main(config: Config) -> None:
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    if config.threads:
        torch.set_num_threads(config.threads)
    out = Path(config.out)
    folder = out.with_name(out.name + ".run")
    accelerator = accelerator_for(config.report_to, folder)
    processes = accelerator.num_processes
    if config.prompts_per_step % (processes * config.accumulate):
        raise ValueError(
            f"prompts_per_step is {config.prompts_per_step}; it must be a multiple of {processes} "
            f"processes × accumulate {config.accumulate}"
        )
    checkpoints = folder / "checkpoints"
    data = {path: sha256_file(Path(path)) for path in config.data}
    now = {**resume.identity(config), "data": data}
    last = last_checkpoint(checkpoints)
    logged_bytes = 0
    if last is not None:
        mark = json.loads((last / MARK).read_text(encoding="utf-8"))
        resume.same_run(checkpoints, mark["run"], now)
        logged_bytes = mark["log_bytes"]
    log = RunLog(folder / "metrics.jsonl", accelerator, logged_bytes)

    # 1. The policy, and the tokens of the records as it will read them when it is sampled from.
    policy = starting_policy(config)
    limit = config.max_tokens or policy.context_tokens or math.inf
    train, too_long = encode_files(config.data, policy.tokenizer, limit)
    validation, _ = encode_files(config.validation, policy.tokenizer, limit)
    if not train:
        raise ValueError(f"every record of {', '.join(config.data)} has over {limit} tokens")
    if last is None:
        log.write("data", train=len(train), validation=len(validation), too_long=too_long)

    # 2. TRL's loop.
    updates = math.ceil(len(train) / config.prompts_per_step) * config.epochs
    trainer = SFTTrainer(
        model=policy.model,
        args=SFTConfig(
            output_dir=str(checkpoints),
            per_device_train_batch_size=config.prompts_per_step // (processes * config.accumulate),
            gradient_accumulation_steps=config.accumulate,
            num_train_epochs=config.epochs,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            warmup_steps=round(config.warmup * updates),
            lr_scheduler_type="linear",
            adam_beta2=0.98,  # remembers 50 steps, not 1000: runs are short
            max_length=None,  # nothing is cut
            activation_checkpointing=False,
            bf16=accelerator.mixed_precision == "bf16",
            use_cpu=accelerator.device.type == "cpu",
            dataloader_pin_memory=accelerator.device.type == "cuda",
            logging_steps=max(1, updates // LOGGED_STEPS),
            eval_strategy="epoch" if validation else "no",
            save_strategy="steps" if config.state_steps else "epoch",
            save_steps=config.state_steps or 1,
            save_total_limit=2,  # the one before is whole while the next is written
            seed=config.seed,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(train),
        eval_dataset=Dataset.from_list(validation) if validation else None,
        processing_class=policy.tokenizer,
        callbacks=[_Watch(log, now)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=str(last) if last else None)

    # 3. The policy, and where it comes from.
    if accelerator.is_main_process:
        save_policy(policy, out, lineage_of(config, policy, data))
        shutil.rmtree(checkpoints)
    accelerator.end_training()


def starting_policy(config: Config) -> Policy:
    """The model to begin from.

    Raises:
        OSError: there is none of that name. ValueError: its tokenizer does not serve.
    """
    if config.tiny is None:
        return load_policy(config.policy)
    return tiny_policy(config.tiny, load_tokenizer(config.tokenizer), config.seed)


def encode_files(
    paths: Iterable[str], tokenizer: PreTrainedTokenizerFast, limit: float
) -> tuple[list[dict[str, list[int]]], int]:
    """Rows of `input_ids` and `labels`, and how many records were longer than the limit and left out.

    Raises:
        BadData: with file and line. OSError: a file cannot be read.
    """
    rows: list[dict[str, list[int]]] = []
    too_long = 0
    for path in paths:
        for fields in progress(records(Path(path)), Path(path).name):
            row = encode(fields, tokenizer)
            if len(row["input_ids"]) > limit:
                too_long += 1
            else:
                rows.append(row)
    return rows, too_long


def encode(fields: Fields, tokenizer: PreTrainedTokenizerFast) -> dict[str, list[int]]:
    """The tokens of one record, and as labels those that are imitated; raises BadData."""
    if "text" in fields.record:
        ids = [*whole_ids(tokenizer, fields.text("text")), end_id(tokenizer)]
        return {"input_ids": ids, "labels": ids}
    prompt, messages = read_prompt(fields)
    context = fields.texts("context") if "context" in fields.record else ()
    try:
        asked = prompt_ids(tokenizer, prompt or messages or (), context)
    except ValueError as error:
        raise fields.bad(str(error)) from None
    response = response_ids(tokenizer, fields.text("response"))
    return {"input_ids": asked + response, "labels": [IGNORED] * len(asked) + response}


def lineage_of(config: Config, policy: Policy, data: Mapping[str, str]) -> dict[str, Any]:
    """How the policy came to be. data: SHA-256 of each file. base: the name it began from, and its lineage."""
    start = {"base": dataclasses.asdict(config.tiny or TinySpec()), "base_lineage": {}}
    return {
        "stage": "sft",
        **(begun_from(config.policy, policy.lineage) if config.policy else start),
        "data": {Path(path).name: digest for path, digest in data.items()},
        "epochs": config.epochs,
        "learning_rate": config.learning_rate,
        "seed": config.seed,
        "fingerprint": fingerprint_of(policy),
    }


def last_checkpoint(directory: Path) -> Path | None:
    """The last one that was finished: it has the mark that is written after everything else."""
    whole = [path for path in directory.glob("checkpoint-*") if (path / MARK).is_file()]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


class _Watch(TrainerCallback):
    """What the trainer says goes where every stage says it; its checkpoints are marked when they are whole."""

    def __init__(self, log: RunLog, run: Mapping[str, Any]) -> None:
        self._log, self._run = log, run
        self._bar: Iterator[int] = iter(())

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **given: Any) -> None:
        self._bar = progress(range(state.global_step, state.max_steps), "sft")
        next(self._bar, None)

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **given: Any) -> None:
        next(self._bar, None)

    def on_log(
        self, args: Any, state: TrainerState, control: Any, logs: Any = None, **given: Any
    ) -> None:
        event = "end" if "train_runtime" in logs else "epoch" if "eval_loss" in logs else "step"
        self._log.write(event, **{"step": state.global_step, **logs})

    def on_save(self, args: Any, state: TrainerState, control: Any, **given: Any) -> None:
        if state.is_world_process_zero:
            mark = {"log_bytes": self._log.sync(), "run": self._run}
            place = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            write_atomically(place / MARK, json.dumps(mark))
