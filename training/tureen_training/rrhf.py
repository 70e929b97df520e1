"""Stage `rrhf`: a policy learns to rank candidates as a running Tureen service does, by RRHF.

Read top to bottom: 1 candidates, by people and by other policies, 2 those of the policy itself, and the rewards of all,
3 for each step some prompts with all their candidates: the ranking loss and the best response's (`losses_rrhf`).
Offline, 2 comes once; online, again each `resample_steps` steps.

Where it deviates from the paper (Yuan et al., arXiv:2304.05302): several prompts make a batch; candidates of the same
text are one; one without a reward is left out and counted; online, the KL penalty is of a whole response, as it was
scored.

Killed at any moment, or stopped because the service does not answer, the same command goes on from the last state.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import shutil
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor

from tureen_training import resume
from tureen_training.candidates import read_asked
from tureen_training.experience import Rows, read, readings_of, rows_of
from tureen_training.kl import KlController, estimates
from tureen_training.lineage import begun_from, lineage_mismatch
from tureen_training.losses_rrhf import (
    best_response_loss,
    ranking_loss,
    sequence_log_probs,
)
from tureen_training.optim import linear_decay, update
from tureen_training.oracle import (
    OracleUnavailable,
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
from tureen_training.rollout import Rollout, drawn, read_questions, respond
from tureen_training.rrhf_config import Config as Config
from tureen_training.rrhf_rounds import (
    Maker,
    Round,
    Row,
    read_from_sources,
    seed_of,
    write_by_sources,
)
from tureen_training.runlog import progress
from tureen_training.watch import Watch, facts_of, figures_of, write_facts

ADAM_EPSILON = 1e-5
TERMS = ("rank", "best", "pairs", "misordered", "best_tokens")
"""What is summed over the prompts of a step, for the log."""


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
    if config.prompts_per_step < processes:
        raise ValueError(f"a step has {config.prompts_per_step} prompts for {processes} processes")

    # The networks; nothing drops out.
    reference = load_policy(config.policy)
    reference.model.to(accelerator.device).eval()  # pyright: ignore[reportArgumentType]
    policy = dataclasses.replace(reference, model=copy.deepcopy(reference.model))
    reference.model.requires_grad_(False)
    optimiser = torch.optim.AdamW(
        policy.model.parameters(), lr=config.learning_rate, eps=ADAM_EPSILON, weight_decay=0.0
    )
    trained = dict(policy.model.named_parameters())

    # What is read.
    context = policy.context_tokens
    room = None if context is None else context - config.max_new_tokens
    asked, too_long = read_asked(config.prompts, policy.tokenizer, room)
    if not asked:
        raise ValueError(f"every prompt of {', '.join(config.prompts)} has over {room} tokens")
    held_out, _ = read_questions(config.validation, policy.tokenizer, room)
    steps = max(1, round(config.epochs * len(asked) / config.prompts_per_step))
    if not (config.sources or config.online or any(len(one.candidates) > 1 for one in asked)):
        raise ValueError(
            "no prompt has two candidates; give sources, resample_steps, or responses in the files"
        )

    controller = KlController(config.kl_coefficient)
    watch = Watch(config.thresholds)
    done, stopped = 0, ""
    if state:
        resume.load_state(place, trained, optimiser)
        controller.restore(state["kl"])
        watch.restore(state["watch"])
        oracle.fingerprint, done = state["fingerprint"], state["step"]
    fingerprint: str = state["seen"] if state else ""

    def rows(rollouts: Sequence[Rollout]) -> Rows:
        return rows_of(rollouts, pad_id(policy.tokenizer), accelerator.device)

    def standing() -> dict[str, Any]:
        """Where the run stands between two steps; what a step does before its update can be done again from there."""
        record = {
            "step": done,
            "kl": controller.state(),
            "watch": watch.state(),
            "fingerprint": oracle.fingerprint,
            "seen": fingerprint,
            "log_bytes": log.path.stat().st_size,
            "config": resume.identity(config),
        }
        return copy.deepcopy(record)

    def keep(record: dict[str, Any]) -> None:
        if first:
            log.sync()
            resume.save_state(place, trained, optimiser, record)
        accelerator.wait_for_everyone()

    @contextlib.contextmanager
    def asking() -> Iterator[None]:
        """An outage in one process ends all of them, with the state kept."""
        outage: OracleUnavailable | SoupSwapped | None = None
        try:
            yield
        except (OracleUnavailable, SoupSwapped) as error:
            outage = error
        for one in gather_object([outage]):
            if one is not None:
                keep(stands)
                raise type(one)(
                    f"{one} The run stopped before step {done + 1} with its state in {place}; the same "
                    "command goes on from there."
                ) from one

    def look(figures: dict[str, float]) -> None:
        nonlocal stopped
        for alarm in watch.look(figures):
            log.write("alarm", step=done, **dataclasses.asdict(alarm))
            if alarm.action == "raise_kl":
                controller.raise_by(config.raise_kl_by)
            elif alarm.action == "stop":
                stopped = f"{alarm.figure} is {alarm.value:.4g}"

    def validate() -> None:
        """The policy's responses to prompts that it does not learn from."""
        if not held_out:
            return
        sampling = Sampling(max_new_tokens=config.max_new_tokens, temperature=config.temperature)
        seed, batch = seed_of(config.seed, "validation", done), config.rows_per_forward
        found: list[dict[str, Any]] = [{}]
        with asking():
            if first:
                own = respond(policy, held_out, sampling, seed=seed, batch=batch)
                future = oracle.submit([one.sample(dense=False) for one in own])
                readings = readings_of(
                    own,
                    policy.model,
                    reference.model,
                    None,
                    rows,
                    temperature=config.temperature,
                    batch=batch,
                )
                kl = estimates(readings.log_probs, readings.reference_log_probs)
                facts = list(facts_of(own, future.result(), readings, kl))
                found[0] = figures_of(facts, len(policy.tokenizer))
        broadcast_object_list(found)
        log.write("validation", step=done, **{name: round(x, 6) for name, x in found[0].items()})
        if not config.online:
            look(found[0])

    # 1. Candidates that are made once. What an earlier run left here is not of this one.
    if not state:
        if first:
            for name in ("sources", "rounds", "responses"):
                shutil.rmtree(folder / name, ignore_errors=True)
        info = oracle.info()
        log.write("oracle", id=info.id, fingerprint=info.fingerprint, base=info.base)
        if warning := lineage_mismatch(begun_from(config.policy, policy.lineage), info):
            log.write("lineage", warning=warning)
        fingerprint = info.fingerprint
        log.write("data", prompts=len(asked), too_long=too_long, steps=steps)
        keep(standing())

    def load(source: str) -> Policy:
        found = load_policy(source)
        found.model.to(accelerator.device).eval()  # pyright: ignore[reportArgumentType]
        return found

    write_by_sources(config, asked, folder / "sources", load, rank, processes)
    accelerator.wait_for_everyone()
    asked = read_from_sources(config, asked, folder / "sources")
    maker = Maker(config, asked, policy, reference.model, rows, oracle, folder / "rounds")
    of_round: Round | None = None
    stands = standing()

    for step in progress(range(done, steps), "rrhf"):
        began_s = time.perf_counter()
        stands = standing()
        if step % config.validation_steps == 0:
            validate()

        # 2. Rewards of all candidates, of these steps' prompts.
        length = config.resample_steps or steps
        number, into = divmod(step, length)
        if of_round is None or into == 0:
            start, end = number * length, min(steps, (number + 1) * length)
            taken = (end - start) * config.prompts_per_step
            order = drawn(len(asked), start * config.prompts_per_step, taken, config.seed)
            places = list(dict.fromkeys(order))
            with asking():
                maker.write(number, places, rank, processes)
            made_s = time.perf_counter() - began_s
            of_round = maker.read(number, places)
            if into == 0:
                figures = of_round.figures
                if of_round.facts:
                    own = figures_of(of_round.facts, len(policy.tokenizer))
                    own |= watch.against_kl(own)
                    figures = figures | {name: round(x, 6) for name, x in own.items()}
                    figures["kl/coefficient"] = controller.coefficient
                    look(own)
                    if first:
                        write_facts(folder / "responses" / f"{number:06d}.jsonl", of_round.facts)
                log.write("candidates", step=done, **figures, **{"time/candidates_s": made_s})
                for new in of_round.fingerprints:
                    if fingerprint and new != fingerprint:
                        log.write("swap", step=done, old=fingerprint, new=new)
                    fingerprint = new
            oracle.swaps.clear()
        if stopped:
            break

        # 3. The update.
        chosen = drawn(
            len(asked), step * config.prompts_per_step, config.prompts_per_step, config.seed
        )
        groups = [of_round.ranked(i, controller.coefficient) for i in chosen[rank::processes]]
        figures = improve(config, step, steps, groups, policy, optimiser, rows, accelerator)
        done = step + 1
        figures["time/step_s"] = time.perf_counter() - began_s
        log.write("step", step=done, **{name: round(x, 6) for name, x in figures.items()})
        if done % config.state_steps == 0 and done < steps:
            keep(standing())

    stands = standing()
    log.write("end", step=done, stopped=stopped or None)
    validate()
    if first:
        save_policy(policy, out, lineage_of(config, policy, done, stopped))
        resume.forget(place)
    accelerator.end_training()


def improve(
    config: Config,
    step: int,
    steps: int,
    groups: Sequence[Sequence[Row]],
    policy: Policy,
    optimiser: torch.optim.Optimizer,
    rows: Any,
    accelerator: Any,
) -> dict[str, float]:
    """Moves the policy once, down the mean loss of a prompt.

    Args:
        groups: of this process, the candidates of each prompt; one without any teaches nothing.

    Returns:
        loss/rank, loss/best: means over prompts. rank/pairs: a prompt; rank/misordered: share of them. best/log_prob:
        of a token of the best responses. Nothing where no prompt has a candidate with a reward.
    """
    groups = [group for group in groups if group]
    count = _total(torch.tensor(float(len(groups)), device=accelerator.device), accelerator)
    if not count:
        return {}
    seen = torch.zeros(len(TERMS), device=accelerator.device)

    def losses() -> Iterator[Tensor]:
        for some in packed(groups, config.rows_per_forward):
            flat = [row for group in some for row in group]
            read_rows = rows([row.rollout for row in flat])
            device = read_rows.mask.device
            rewards = torch.tensor([row.reward for row in flat], device=device, dtype=torch.float64)
            prompts = torch.tensor([i for i, g in enumerate(some) for _ in g], device=device)
            with accelerator.autocast():
                log_probs, _ = read(policy.model, read_rows, 1.0)
            totals, lengths = sequence_log_probs(log_probs, read_rows.mask), read_rows.mask.sum(1)
            ranking = ranking_loss(totals / lengths, rewards, prompts)
            best = best_response_loss(totals, rewards, prompts)
            tokens = -best_response_loss(lengths.double(), rewards, prompts)
            counts = (float(ranking.pairs), float(ranking.misordered), tokens.item())
            terms = (ranking.total.item(), best.item(), *counts)
            seen.add_(torch.tensor(terms, device=device))
            yield (config.rank_weight * ranking.total + best) / count

    update(optimiser, losses(), linear_decay(step, steps, config.warmup), accelerator)
    sums = dict(zip(TERMS, _total(seen, accelerator).tolist(), strict=True))
    figures = {
        "loss/rank": sums["rank"] / count.item(),
        "loss/best": sums["best"] / count.item(),
        "rank/pairs": sums["pairs"] / count.item(),
        "best/log_prob": -sums["best"] / sums["best_tokens"],
    }
    if sums["pairs"]:
        figures["rank/misordered"] = sums["misordered"] / sums["pairs"]
    return figures


def packed(groups: Sequence[Sequence[Row]], rows: int) -> Iterator[list[Sequence[Row]]]:
    """Whole prompts, of together at most `rows` candidates unless one prompt alone has more."""
    pack: list[Sequence[Row]] = []
    for group in groups:
        if pack and sum(map(len, pack)) + len(group) > rows:
            yield pack
            pack = []
        pack.append(group)
    if pack:
        yield pack


def lineage_of(config: Config, policy: Policy, steps: int, stopped: str) -> dict[str, Any]:
    """How the policy came to be. stopped: what a threshold ended the run for, None where nothing did."""
    return {
        "stage": "rrhf",
        **begun_from(config.policy, policy.lineage),
        "sources": list(config.sources),
        "online": config.online,
        "steps": steps,
        "stopped": stopped or None,
        "seed": config.seed,
        "fingerprint": fingerprint_of(policy),
    }


def _total(sums: Tensor, accelerator: Any) -> Tensor:
    """Over all processes."""
    total = accelerator.reduce(sums, "sum")
    assert isinstance(total, Tensor)
    return total
