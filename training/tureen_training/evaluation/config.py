"""What `tureen-train evaluate` is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Measure reward models, policies and judges by the suites of the field.

    data: directory of the suite's files, as it is published or as our copies have it; of several suites, the
        directory that holds one folder for each. hf://datasets/OWNER/NAME fetches it from the Hugging Face hub.
    suite: one, several with commas between them, or all that can judge what is given.
    model: a reward model: a directory, the name of one in TUREEN_MODELS or in a checkout's service/models, or a
        Hugging Face id; length or random for a reward that reads nothing. Empty is grounded-qa where nothing
        else is to be judged. With `url`: the id of one of the service's models; empty is its default.
    member: an ingredient of the soup `model`, to be judged as a model of its own: its weights alone, with the soup's
        calibration.
    url: of a running service, to score there: http://host:port, or host:port for gRPC; empty scores here.
    api_key: of the service, if it asks for one.
    policy: a language model, by the path of a directory or its name on the Hugging Face hub.
    before, after: two policies to compare; of the suite win_rate also two files of responses in our own format.
    prompts: files of {prompt or messages, id?, context?} for the suites that let policies write; none given, the
        suite's own, of collapse the questions of TruthfulQA in `data`.
    responses_per_prompt, max_new_tokens, temperature: of what policies write in the suite collapse.
    text: file of held-out {text} for the perplexity in the suite collapse; empty is that of WikiText-2 in `data`.
    responses: file of prompts with their responses, in our own format or any that is known, for the suites
        robustness, critique and oversight; empty is QA-Feedback in `data`, of oversight what people ranked.
    rubrics: file of the judge's rubrics in the suite flask. flask_responses: file of responses in the layout of
        FLASK's own; empty is that in `data`. systems: those of them that are judged; none is all.
    rubric: by which the judge of the suites win_rate and oversight compares: one that ships, or a file.
    judge_url: of an OpenAI-compatible API, as http://host:port/v1. judge_model: as that calls it.
    judge_api_key_env: environment variable that holds the key of the judge; unset, none is sent.
    judge_concurrency: questions to the judge under way at once. judge_max_tokens: of one answer, reasons included.
        judge_timeout_s: of one attempt. judge_max_retries: of one question, after rate limits and passing errors.
    split: all, or the train, validation or test part of the fixed split by prompt. Of a model trained on the
        train part of these files only the test part says something.
    limit: how many prompts of each part of the suite, the first by the hash of their id; none takes all.
    out: directory for results.jsonl (what the model said, one line a prompt), report.json and plots, of several
        suites a folder each; a run that was stopped goes on from there. Empty writes nothing.
    seed: of whatever is drawn.
    max_batch_tokens: of one forward pass. device: cpu, cuda, cuda:N; auto is a GPU where there is
        one. threads: of torch, 0 its own choice.
    """

    data: str
    suite: str = "qa_feedback"
    model: str = ""
    member: str = ""
    url: str = ""
    api_key: str = ""
    policy: str = ""
    before: str = ""
    after: str = ""
    prompts: tuple[str, ...] = ()
    responses_per_prompt: int = 8
    max_new_tokens: int = 48
    temperature: float = 1.0
    text: str = ""
    responses: str = ""
    rubrics: str = ""
    flask_responses: str = ""
    systems: tuple[str, ...] = ()
    rubric: str = "preference"
    judge_url: str = ""
    judge_model: str = ""
    judge_api_key_env: str = "TUREEN_JUDGE_API_KEY"
    judge_concurrency: int = 4
    judge_max_tokens: int = 1024
    judge_timeout_s: float = 60.0
    judge_max_retries: int = 8
    split: str = "all"
    limit: int | None = None
    out: str = ""
    seed: int = 0
    max_batch_tokens: int = 16384
    device: str = "cpu"
    threads: int = 0

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is {self.limit}; give at least 1, or leave it out")
        if self.responses_per_prompt < 1:
            raise ValueError(
                f"responses_per_prompt is {self.responses_per_prompt}; give at least 1"
            )
        if self.member and (self.url or not self.model):
            raise ValueError(
                f"member is {self.member!r}, an ingredient of a soup that is loaded here; name the soup with model, "
                "and leave url out"
            )
        for one, other in (("before", "after"), ("judge_url", "judge_model")):
            if bool(getattr(self, one)) != bool(getattr(self, other)):
                raise ValueError(f"{one} and {other} belong together; give both or neither")
