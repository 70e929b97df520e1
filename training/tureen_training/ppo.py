"""Stage `ppo`: a policy learns from the rewards of a running Tureen service, by PPO with a value network.

Read top to bottom; a step is: 1 sample responses, each chunk scored while the next is sampled, 2 read them with policy,
reference and value network, 3 put rewards and KL penalty on tokens, 4 estimate advantages, 5 update both networks, with
pretraining text mixed in, 6 adapt the KL coefficient, look at the figures, log.

Where it deviates from "The N+ Implementation Details of RLHF with PPO" (arXiv:2403.17031): the reward comes over the
network and may lie on tokens; a response without an end of text has its reward lowered and not replaced; a response
that cannot be scored is left out and counted; the value network is one of its own with its own learning rate;
advantages are whitened over all processes; nothing is generated behind the end of text.

Killed at any moment, or stopped because the service does not answer, the same command goes on from the last state.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import random
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from tureen_training import resume
from tureen_training.advantages import end_of_text_penalty, explained_variance, gae, whiten
from tureen_training.experience import (
    Experience,
    Rows,
    ValueModel,
    readings_of,
    rows_of,
    token_rewards,
)
from tureen_training.kl import KlController, estimates
from tureen_training.lineage import begun_from, lineage_mismatch
from tureen_training.oracle import (
    OracleUnavailable,
    Reward,
    RewardOracle,
    SoupSwapped,
    connected,
)
from tureen_training.policies import (
    Policy,
    Sampling,
    fingerprint_of,
    load_policy,
    pad_id,
    save_policy,
)
from tureen_training.ppo_config import Config as Config
from tureen_training.ppo_update import Networks, improve
from tureen_training.replay import average, read_cloze, tax
from tureen_training.rollout import Rollout, drawn, parts, read_questions, respond
from tureen_training.runlog import progress
from tureen_training.sft import encode_files
from tureen_training.watch import Watch, facts_of, figures_of, write_facts

ADAM_EPSILON = 1e-5
Outage = OracleUnavailable | SoupSwapped


def main(config: Config) -> None:
    with contextlib.closing(connected(config)) as oracle:
        train(config, oracle)


def train(config: Config, oracle: RewardOracle) -> None:
    """The stage, with rewards from `oracle`.

    Raises:
        OracleUnavailable, SoupSwapped: the state was kept, and the same call goes on from it.
    """
    begun = resume.opened(config)
    out, folder, place, state, log = begun.out, begun.folder, begun.place, begun.state, begun.log
    accelerator = begun.accelerator
    rank, processes, first = (
        accelerator.process_index,
        accelerator.num_processes,
        accelerator.is_main_process,
    )
    prompts_per_step = config.responses_per_step // config.samples_per_prompt
    if prompts_per_step < processes:
        raise ValueError(f"a step has {prompts_per_step} prompts for {processes} processes")

    # The networks. None of them ever drops out: where nothing was learnt ρ is 1 and the KL 0.
    reference = load_policy(config.policy)
    reference.model.to(accelerator.device).eval()  # pyright: ignore[reportArgumentType]
    policy = dataclasses.replace(reference, model=copy.deepcopy(reference.model))
    reference.model.requires_grad_(False)
    value = ValueModel(policy).to(accelerator.device).eval()
    rates = ((policy.model, config.learning_rate), (value, config.value_learning_rate))
    optimiser = torch.optim.AdamW(
        [{"params": list(network.parameters()), "lr": rate} for network, rate in rates],
        eps=ADAM_EPSILON,
        weight_decay=0.0,
    )
    networks = Networks(policy.model, value, optimiser)
    trained = {f"policy.{name}": p for name, p in policy.model.named_parameters()}
    trained |= {f"value.{name}": p for name, p in value.named_parameters()}

    # What is read: prompts, text to replay, and what the tax is measured on.
    context = policy.context_tokens
    room = None if context is None else context - config.max_new_tokens
    questions, too_long = read_questions(config.prompts, policy.tokenizer, room)
    if not questions:
        raise ValueError(f"every prompt of {', '.join(config.prompts)} has over {room} tokens")
    limit = context or float("inf")
    replayed, replay_too_long = encode_files(config.replay, policy.tokenizer, limit)
    held_out, _ = encode_files(config.tax_text, policy.tokenizer, limit)
    cloze = read_cloze(config.tax_cloze, policy.tokenizer)

    # What a run knows beside its networks.
    controller = KlController(
        config.kl_coefficient,
        target_nats_per_response=config.kl_target_nats_per_response,
        horizon_responses=config.kl_horizon_responses,
    )
    watch = Watch(config.thresholds)
    done, stopped = 0, ""
    if state:
        resume.load_state(place, trained, optimiser)
        controller.restore(state["kl"])
        watch.restore(state["watch"])
        oracle.fingerprint, done, stopped = state["fingerprint"], state["step"], state["stopped"]

    def rows(rollouts: Sequence[Rollout]) -> Rows:
        return rows_of(rollouts, pad_id(policy.tokenizer), accelerator.device)

    def keep() -> None:
        if first:
            record = {
                "step": done,
                "stopped": stopped,
                "kl": controller.state(),
                "watch": watch.state(),
                "fingerprint": oracle.fingerprint,
                "log_bytes": log.sync(),
                "config": resume.identity(config),
            }
            resume.save_state(place, trained, optimiser, record)
        accelerator.wait_for_everyone()

    def measure(event: str, model: Policy, **which: object) -> None:
        if first and (held_out or cloze):
            found = tax(model, held_out, cloze, batch=config.rows_per_forward)
            log.write(event, step=done, **which, **found)

    if not state:
        info = oracle.info()
        log.write("oracle", id=info.id, fingerprint=info.fingerprint, base=info.base)
        if warning := lineage_mismatch(begun_from(config.policy, policy.lineage), info):
            log.write("lineage", warning=warning)
        counts = {"too_long": too_long, "replay": len(replayed), "replay_too_long": replay_too_long}
        log.write("data", prompts=len(questions), **counts)
        measure("tax", policy)

    for step in progress(range(done, 0 if stopped else config.steps), "ppo"):
        began_s = time.perf_counter()

        # 1. Responses. The rewards of a chunk are on their way while the next one is sampled.
        places = drawn(len(questions), step * prompts_per_step, prompts_per_step, config.seed)
        own = [questions[i] for i in places[rank::processes]]
        own = [question for question in own for _ in range(config.samples_per_prompt)]
        rollouts: list[Rollout] = []
        asked: list[Future[list[Reward]]] = []
        for number, part in enumerate(parts(own, config.chunks)):
            seed = random.Random(f"{config.seed}:{step}:{number}:{rank}").getrandbits(63)
            sampling = Sampling(
                max_new_tokens=config.max_new_tokens, temperature=config.temperature
            )
            some = respond(policy, part, sampling, seed=seed, batch=config.rows_per_forward)
            asked.append(oracle.submit([one.sample(dense=config.dense) for one in some]))
            rollouts += some
        sampled_s = time.perf_counter()

        # 2. What the networks say of them, while the last rewards are on their way.
        with accelerator.autocast():
            readings = readings_of(
                rollouts,
                policy.model,
                reference.model,
                value,
                rows,
                temperature=config.temperature,
                batch=config.rows_per_forward,
            )
        read_s = time.perf_counter()
        try:
            rewards = collected(asked)
        except (OracleUnavailable, SoupSwapped) as error:
            keep()
            raise type(error)(
                f"{error} The run stopped before step {step + 1} with its state in {place}; "
                "the same command goes on from there."
            ) from error
        waited_s = time.perf_counter() - read_s

        # 3. Rewards of tokens. 4. Advantages. Responses without a reward have none.
        kl = estimates(readings.log_probs, readings.reference_log_probs)
        placed, scored = token_rewards(rollouts, rewards, readings.mask, dense=config.dense)
        ended = torch.tensor([one.sampled.ended for one in rollouts], device=scored.device)
        placed = placed + end_of_text_penalty(ended, readings.mask, config.end_penalty)
        placed = placed - controller.coefficient * kl.k1
        mask = readings.mask & scored[:, None]

        def total(sums: Tensor) -> Tensor:
            reduced = accelerator.reduce(sums, "sum")
            assert isinstance(reduced, Tensor)
            return reduced

        if config.whiten_rewards:
            placed = whiten(placed, mask, shift_mean=False, reduce=total)
        advantages, returns = gae(
            placed, readings.values, mask, discount=config.discount, trace=config.trace
        )
        explained = explained_variance(readings.values, returns, mask, total)
        experience = Experience(
            rollouts=rollouts,
            mask=mask,
            log_probs=readings.log_probs,
            values=readings.values,
            advantages=whiten(advantages, mask, reduce=total),
            returns=returns,
        )

        # 5. Updates.
        updates = improve(config, step, experience, replayed, networks, rows, accelerator)

        # 6. Figures, over all processes; what they set off; the log.
        facts = gather_object(list(facts_of(rollouts, rewards, readings, kl)))
        figures = figures_of(facts, len(policy.tokenizer)) | updates
        figures |= watch.against_kl(figures)
        figures["kl/coefficient"] = controller.coefficient
        figures["reward/of_kl"] = -controller.coefficient * figures["kl/k1_nats_per_response"]
        figures["reward/of_ending"] = -config.end_penalty * (1 - figures["response/ended"])
        if explained is not None:
            figures["value/explained_variance"] = explained
        controller.update(figures["kl/k1_nats_per_response"], config.responses_per_step)
        done = step + 1
        spent_s = time.perf_counter() - began_s
        figures["time/step_s"] = spent_s
        figures["time/sampling_s"] = sampled_s - began_s
        figures["oracle/wait_share"] = waited_s / spent_s
        log.write("step", step=done, **{name: round(x, 6) for name, x in figures.items()})
        for old, new in oracle.swaps:
            log.write("swap", step=done, old=old, new=new)
        oracle.swaps.clear()
        for alarm in watch.look(figures):
            log.write("alarm", step=done, **dataclasses.asdict(alarm))
            if alarm.action == "raise_kl":
                controller.raise_by(config.raise_kl_by)
            elif alarm.action == "stop":
                stopped = f"{alarm.figure} is {alarm.value:.4g}"
        if first:
            write_facts(folder / "responses" / f"{done:06d}.jsonl", facts)
            if config.snapshot_steps and done % config.snapshot_steps == 0:
                snapshot = folder / "snapshots" / f"{done:06d}"
                save_policy(policy, snapshot, lineage_of(config, policy, done, stopped))
        if done % config.tax_steps == 0 and done < config.steps and not stopped:
            measure("tax", policy)
        if stopped or (done % config.state_steps == 0 and done < config.steps):
            keep()
        if stopped:
            break

    # The policy, what it lost, and what averaging gives back.
    log.write("end", step=done, stopped=stopped or None)
    measure("tax", policy)
    if first:
        start = reference.model.state_dict()
        for share in config.averages:
            model = copy.deepcopy(policy.model)
            model.load_state_dict(average(start, policy.model.state_dict(), share))
            averaged = dataclasses.replace(policy, model=model)
            measure("average", averaged, share=share)
            lineage = lineage_of(config, averaged, done, stopped) | {"share": share}
            save_policy(averaged, out.with_name(f"{out.name}-average-{share:g}"), lineage)
        save_policy(policy, out, lineage_of(config, policy, done, stopped))
        resume.forget(place)
    accelerator.end_training()


def collected(asked: Sequence[Future[list[Reward]]]) -> list[Reward]:
    """The rewards of all chunks, once each process has its own.

    Raises:
        OracleUnavailable, SoupSwapped: in every process where one of them has it, so that none waits for the others.
    """
    rewards: list[Reward] = []
    outage: Outage | None = None
    try:
        for future in asked:
            rewards += future.result()
    except (OracleUnavailable, SoupSwapped) as error:
        outage = error
    for one in gather_object([outage]):
        if one is not None:
            raise one
    return rewards


def lineage_of(config: Config, policy: Policy, steps: int, stopped: str) -> dict[str, Any]:
    """How the policy came to be. stopped: what a threshold ended the run for, None where nothing did."""
    return {
        "stage": "ppo",
        **begun_from(config.policy, policy.lineage),
        "steps": steps,
        "stopped": stopped or None,
        "seed": config.seed,
        "fingerprint": fingerprint_of(policy),
    }
