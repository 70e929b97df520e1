"""What is judged, and what judges: opened at first use, shared by the suites of one run, closed at its end."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from enum import StrEnum
from functools import cached_property
from types import TracebackType
from typing import Self

from tureen.client.flow import Retry
from tureen_training.evaluation.config import Config
from tureen_training.evaluation.language_models import LanguageModel, open_language_model
from tureen_training.evaluation.scorers import Scorer, open_scorer
from tureen_training.judge.client import Judge


class Subject(StrEnum):
    REWARD = "a reward model"
    POLICY = "a policy"
    TWO_POLICIES = "two policies"
    JUDGE = "a judge"


FLAGS: Mapping[Subject, str] = {
    Subject.REWARD: "--model or --url",
    Subject.POLICY: "--policy",
    Subject.TWO_POLICIES: "--before and --after",
    Subject.JUDGE: "--judge-url and --judge-model",
}


def given(config: Config) -> frozenset[Subject]:
    """What a configuration names; the default reward model where it names nothing."""
    named = {
        Subject.REWARD: config.model or config.url,
        Subject.POLICY: config.policy,
        Subject.TWO_POLICIES: config.before,
        Subject.JUDGE: config.judge_url,
    }
    return frozenset(subject for subject, name in named.items() if name) or frozenset(
        {Subject.REWARD}
    )


class Subjects:
    """Of one run. `given`: those that can be asked for."""

    def __init__(self, config: Config) -> None:
        self.given = given(config)
        self._config = config
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    @cached_property
    def scorer(self) -> Scorer:
        config = self._config
        opened = open_scorer(
            config.model,
            member=config.member,
            url=config.url,
            api_key=config.api_key,
            max_batch_tokens=config.max_batch_tokens,
            device=config.device,
            seed=config.seed,
        )
        self._open.callback(opened.close)
        return opened

    @cached_property
    def policy(self) -> LanguageModel:
        return open_language_model(self._config.policy, self._config.device)

    @cached_property
    def two_policies(self) -> tuple[LanguageModel, LanguageModel]:
        before, after = (
            open_language_model(source, self._config.device)
            for source in (self._config.before, self._config.after)
        )
        return before, after

    @cached_property
    def judge(self) -> Judge:
        config = self._config
        return self._open.enter_context(
            Judge(
                config.judge_url,
                config.judge_model,
                api_key=os.environ.get(config.judge_api_key_env) or None,
                max_tokens=config.judge_max_tokens,
                timeout_s=config.judge_timeout_s,
                retry=Retry(max_retries=config.judge_max_retries),
                concurrency=config.judge_concurrency,
            )
        )


Takes = Sequence[frozenset[Subject]]
"""Ways to give a suite what it judges: one of these sets, or several."""


def described(takes: Takes) -> str:
    """ "a reward model (--model or --url), or a policy (--policy)"."""
    return ", or ".join(
        " with ".join(f"{subject} ({FLAGS[subject]})" for subject in Subject if subject in way)
        for way in takes
    )
