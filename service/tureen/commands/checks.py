"""The checks of `tureen doctor`, each a name, a verdict and what was found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Literal

from tureen.commands.in_process import scoring
from tureen.contracts import (
    Aggregation,
    Granularity,
    Sample,
    Score,
    ScoreRequest,
    Segment,
    Truncate,
)
from tureen.engine.loading import STUB, doubtful_reward, load_model
from tureen.engine.scorer import Scorer
from tureen.engine.selfcheck import INVARIANCE
from tureen.engine.served import ServedModel
from tureen.errors import InputTooLong, from_info
from tureen.model.directory import current_export, find_model, open_model
from tureen.text.encoding import Window
from tureen.usage import UsageError

BACKENDS_AGREE = 1e-4  # of raw values, in fp32: what an export is allowed
SHARES_ADD_UP = 1e-5
MANY_UNKNOWN = 0.05  # share of unknown tokens from which a script is not really read

Status = Literal["ok", "FAIL", "note"]

SAMPLES = (
    Sample(prompt="What is 2+2?", responses=("4", "5.", "It is four, as far as anybody knows.")),
    Sample(
        prompt="Who painted the Night Watch, and when?",
        context=("The Night Watch is a 1642 painting by Rembrandt van Rijn.",),
        responses=(
            "Rembrandt painted it in 1642.",
            "Vermeer painted it. It hangs in Delft, where he lived; nobody has ever seen it.",
        ),
    ),
    Sample(
        prompt="日本の首都はどこですか。",
        responses=("東京です。人口は約千四百万人です。", "大阪。"),
    ),
    Sample(
        prompt="Describe it.\n\nIn two lines.",
        responses=(
            "Naïve café — e\u0301t\u00e9 👩‍👩‍👧 \U0001f9e1.\n\n\tDone.",
            "  spaces  around  ",
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    status: Status
    found: str


def check_text(model: ServedModel) -> Iterator[Check]:
    """What becomes of text on its way to the model."""
    tokenizer, spec = model.encoder.tokenizer, model.encoder.spec
    windows = [window for sample in fitting(model) for window in _windows(model, sample)]
    bos = tokenizer.bos_token_id
    if bos is None or spec.template == "pair":
        yield Check("one BOS", "ok", "the layout has none")
    else:
        counts = Counter(int((window.input_ids == bos).sum()) for window in windows)
        wrong = {count for count in counts if count > 1}
        status = "FAIL" if wrong else "ok"
        yield Check("one BOS", status, f"{sorted(counts)} a row, of token {bos}")
    if doubt := doubtful_reward(model.manifest):
        yield Check("what is rewarded", "note", doubt)
    unused = spec.template == "plain" and tokenizer.chat_template
    yield Check(
        "template",
        "note" if unused else "ok",
        "plain, although the tokenizer has a chat template" if unused else spec.template,
    )
    yield _unknown_tokens(model)


async def examine(model: ServedModel) -> list[Check]:
    """What becomes of the rewards when nothing but the company changes."""
    samples = fitting(model)
    references = len(model.manifest.reference)
    found = f"one batch of many lengths; {references} stored reference scores"
    try:
        async with scoring(model, responses_of(samples), remember=False) as scorer:
            return [Check("start-up check", "ok", found), *(await _compared(scorer, samples))]
    except UsageError as error:
        return [Check("start-up check", "FAIL", str(error))]


async def same_in_both_backends(name: str) -> Check:
    """torch against ONNX, where there is an export of these weights and both can run."""
    title = "torch = onnx"
    if name == STUB:
        return Check(title, "note", "the stub has no weights")
    if current_export(open_model(find_model(name))) is None:
        return Check(title, "note", f"no export of these weights: tureen export {name}")
    missing = [package for package in ("torch", "onnxruntime") if find_spec(package) is None]
    if missing:
        return Check(title, "note", f"not compared: {', '.join(missing)} is not installed")
    found = []
    for backend in ("torch", "onnx"):
        model = load_model(name, backend=backend, device="cpu")
        samples = fitting(model)
        async with scoring(model, responses_of(samples), remember=False) as scorer:
            found.append(await scores_of(scorer, samples))
    return verdict(title, furthest(*found), BACKENDS_AGREE)


async def _compared(scorer: Scorer, samples: Sequence[Sample]) -> list[Check]:
    dtype = scorer.model().dtype
    allowed = INVARIANCE.get(dtype, INVARIANCE["float32"])
    crowd = await scores_of(scorer, samples)
    again = await scores_of(scorer, samples)
    alone: list[Score] = []
    for sample in samples:
        for response in sample.responses:
            alone += await scores_of(scorer, [replace(sample, responses=(response,))])
    turned = [replace(one, responses=one.responses[::-1]) for one in samples[::-1]]
    reversed_ = (await scores_of(scorer, turned))[::-1]
    worst = await scores_of(scorer, samples, aggregation=Aggregation.WORST_CASE)
    gaps = [abs(math.fsum(part.reward for part in _parts(one)) - one.reward) for one in worst]
    low = [abs(one.reward - one.uncertainty.low) for one in worst if one.uncertainty is not None]
    return [
        verdict("alone = in a crowd", furthest(alone, crowd), allowed),
        verdict("any order", furthest(reversed_, crowd), allowed),
        verdict("twice the same", furthest(again, crowd), allowed),
        verdict("shares of segments add up", max(gaps), SHARES_ADD_UP),
        verdict("worst case is the least member", max(low), SHARES_ADD_UP),
    ]


def fitting(model: ServedModel) -> tuple[Sample, ...]:
    """The samples that a model can read; a tiny one cannot read all."""
    granularities = {head.granularity for head in model.heads}
    fitting = []
    for sample in SAMPLES:
        try:
            model.encoder.encode(sample, granularities, Truncate.NEVER)
        except InputTooLong:
            continue
        fitting.append(sample)
    if not fitting:
        raise UsageError("no sample of the doctor fits this model: max_input_tokens is too small")
    return tuple(fitting)


def responses_of(samples: Sequence[Sample]) -> int:
    return sum(len(sample.responses) for sample in samples)


async def scores_of(
    scorer: Scorer, samples: Sequence[Sample], aggregation: Aggregation = Aggregation.MEAN
) -> list[Score]:
    request = ScoreRequest(samples=tuple(samples), aggregation=aggregation)
    response = await scorer.score(request)
    scores: list[Score] = []
    for result in response.results:
        if result.error is not None:
            raise from_info(result.error)
        scores += result.scores or ()
    return scores


def _parts(score: Score) -> tuple[Segment, ...]:
    return score.segments or ()


def furthest(some: Sequence[Score], others: Sequence[Score]) -> float:
    """Largest distance of two raw values, as a share of max(1, |value|)."""
    return max(
        abs(one.heads[name].value - head.value) / max(1.0, abs(head.value))
        for one, other in zip(some, others, strict=True)
        for name, head in other.heads.items()
    )


def verdict(name: str, found: float, allowed: float) -> Check:
    status = "ok" if found <= allowed else "FAIL"  # a NaN fails
    return Check(name, status, f"{found:.1e} apart at most; {allowed:.0e} is allowed")


def _unknown_tokens(model: ServedModel) -> Check:
    unknown = model.encoder.tokenizer.unk_token_id
    if unknown is None:
        return Check("text is read", "ok", "the tokenizer knows every character")
    shares = {}
    for sample in fitting(model):
        ids = [id_ for window in _windows(model, sample) for id_ in window.input_ids.tolist()]
        shares[(sample.prompt or "")[:20]] = ids.count(unknown) / len(ids)
    unread = [f"{share:.0%} of {text!r}" for text, share in shares.items() if share > MANY_UNKNOWN]
    found = "unknown tokens: " + ", ".join(unread) if unread else "hardly an unknown token"
    return Check("text is read", "note" if unread else "ok", found)


def _windows(model: ServedModel, sample: Sample) -> list[Window]:
    encoded = model.encoder.encode(sample, {Granularity.RESPONSE})
    return [window for response in encoded for window in response.windows]
