"""Checks of `tureen doctor` against what others say of the model: transformers, its files, float32."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple, cast

import numpy as np

from tureen.commands.checks import (
    BACKENDS_AGREE,
    Check,
    fitting,
    verdict,
)
from tureen.commands.plain_evidence import plain_types, plain_unit_features
from tureen.contracts import Granularity, Sample
from tureen.engine.int8_export import MAX_FLIP_RATE, MAX_REWARD_ERROR
from tureen.engine.loading import STUB, BackendName, DtypeName, load_model
from tureen.engine.parity import RewardParity, describe, reward_parity, rewards
from tureen.engine.selfcheck import INVARIANCE, REFERENCE
from tureen.engine.served import ServedModel
from tureen.model.base import resolve_base
from tureen.model.directory import ModelDirectory, current_export, find_model, open_model
from tureen.text.batch import Batch, collate
from tureen.text.encoding import Window

_EXTRA_PADDING = 7  # tokens
_ROLES = ("bos", "eos", "pad", "cls", "sep")


class _Run(NamedTuple):
    backend: BackendName
    device: str
    dtype: DtypeName


def check_padding(model: ServedModel) -> Check:
    """Whether what stands in the padding, and how much of it there is, is without effect."""
    title, side = "padding has no effect", model.encoder.tokenizer.padding_side
    windows = [window for sample in fitting(model) for window in _windows(model, sample)]
    room = model.manifest.text.max_input_tokens - _EXTRA_PADDING
    windows = [window for window in windows if window.input_ids.size <= room][:4]
    if not windows:
        return Check(title, "note", "no sample leaves room for any")
    moved = 0.0
    for window in windows:
        batch = collate([window], model.pad_id)
        try:
            alone = model.backend.forward(batch)
            for filler in {model.pad_id, int(window.input_ids[0]), int(window.input_ids[-1])}:
                moved = _moved(model.backend.forward(_padded(batch, filler)), alone, moved)
        except Exception as error:  # whatever it is, it is what the doctor was asked about
            return _raised(title, error)
    dtype = model.backend.info.dtype
    found = verdict(title, moved, INVARIANCE.get(dtype, INVARIANCE["float32"]))
    if side != "right" and found.status == "ok":
        told = f"{found.found}; on the right here, whatever the tokenizer says ({side})"
        return Check(title, "note", told)
    return found


def check_pad_is_eos(model: ServedModel) -> Check:
    """transformers takes the last token that is not padding; an EOS that is one is passed over."""
    tokenizer, title = model.encoder.tokenizer, "pad ≠ eos"
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    if pad is None or pad != eos:
        return Check(title, "ok", "two tokens" if pad is not None else "no padding token")
    windows = [window for sample in fitting(model) for window in _windows(model, sample)]
    if any(int(window.input_ids[-1]) == pad for window in windows):
        found = (
            f"both token {pad}, and rows end in it: here the value is read there, by transformers "
            "with padding ids one token before; compare with how the model was trained"
        )
    else:
        found = f"both token {pad}, which ends no row: harmless here, where padding is masked"
    return Check(title, "note", found)


def check_files(name: str, model: ServedModel) -> Iterator[Check]:
    """Whether tokenizer and model are of one vocabulary."""
    title = "tokenizer fits the model"
    if name == STUB:
        yield Check(title, "note", "the stub has no weights")
        return
    config = _config(open_model(find_model(name)))
    tokenizer = model.encoder.tokenizer
    rows = config.get("vocab_size")
    ids = max(tokenizer.get_vocab().values())
    if rows is not None and ids >= rows:
        found = f"tokens up to id {ids}, but the model has {rows} embeddings"
        yield Check(title, "FAIL", f"{found}: another model's tokenizer, or added tokens")
        return
    others = []
    for role in _ROLES:
        stated, own = config.get(f"{role}_token_id"), getattr(tokenizer, f"{role}_token_id", None)
        stated = stated[0] if isinstance(stated, list) and stated else stated
        if stated is not None and own is not None and stated != own:
            others.append(f"{role} is {own}, in config.json {stated}")
    if others:
        yield Check(title, "note", "; ".join(others))
    else:
        yield Check(title, "ok", f"ids up to {ids}, {rows} embeddings")


def check_tokens(model: ServedModel) -> Check:
    """Rows are, token for token, what transformers makes of prompt and response; so are the types."""
    spec, tokenizer = model.encoder.spec, model.encoder.tokenizer
    template = "evidence" if spec.compares else spec.template
    title = {
        "pair": "tokens of a pair",
        "evidence": "tokens and evidence",
        "chat": "tokens of the chat template",
    }.get(template, "tokens of the text")
    for sample, response, window in _plain_rows(model):
        if template == "evidence":
            expected = tokenizer(response, sample.prompt)["input_ids"]
            types = plain_types(tokenizer, sample, response)
            typed = [kind for kind in window.token_type_ids.tolist() if kind]
            if typed != types:
                found = f"of {response!r} are not what the definition gives: {typed} for {types}"
                return Check(title, "FAIL", f"types {found}")
            if window.unit_features is not None:
                asked = any(h.granularity is Granularity.SUB_SENTENCE for h in model.heads)
                counted = plain_unit_features(tokenizer, sample, response) if asked else []
                if not _counted_alike(window.unit_features, counted):
                    found = f"of {response!r} are not what the definition gives"
                    return Check(title, "FAIL", f"numbers of sub-sentences {found}: {counted}")
        elif template == "pair":
            expected = tokenizer(sample.prompt, response)["input_ids"]
        elif template == "chat":
            turns = [
                {"role": "user", "content": sample.prompt},
                {"role": "assistant", "content": response},
            ]
            expected = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
        else:
            expected = tokenizer(f"{sample.prompt}\n{response}")["input_ids"]
        if window.input_ids.tolist() != list(expected):
            return Check(title, "FAIL", f"not those of transformers: {response!r}")
    return Check(title, "ok", "those of transformers")


def same_as_transformers(name: str, model: ServedModel) -> Check:
    """The served values against one plain forward pass a row: no batch, no padding, no mask, float32."""
    title = "as transformers computes"
    if name == STUB:
        return Check(title, "note", "the stub has no weights")
    if find_spec("torch") is None:
        return Check(title, "note", "not compared: torch is not installed")
    if model.backend.info.dtype == "int8":
        return Check(title, "note", "not compared: int8 is judged by its rewards (dtype)")
    opened = open_model(find_model(name))
    from tureen.commands.plain_forward import plain_forward

    moved = 0.0
    try:
        plain = plain_forward(opened)
        for _, _, window in _plain_rows(model):
            expected = plain(window)
            served = model.backend.forward(collate([window], model.pad_id))[0]
            moved = _moved(served[: len(expected)], expected, moved)
    except Exception as error:  # as above
        return _raised(title, error)
    return verdict(title, moved, _allowed(model.backend.info.dtype))


def check_dtype(name: str, model: ServedModel) -> Check:
    """Rewards in the served dtype against those in float32, and how many pairs change their order."""
    title, info = "dtype", model.backend.info
    if info.dtype == "float32" or name == STUB:
        return Check(title, "ok", info.dtype)
    served = _Run(cast(BackendName, info.name), info.device, cast(DtypeName, info.dtype))
    parity, allowed = _against_float32(name, served, fitting(model)), REFERENCE[info.dtype]
    told = f"against float32: {describe(parity)}; {allowed:g} is allowed"
    return Check(title, "ok" if parity.max_error <= allowed else "FAIL", told)


def check_int8(name: str) -> Check:
    """How many pairs change their order in the int8 export, on the model's reference samples and ours."""
    title = "int8 flip rate"
    if name == STUB:
        return Check(title, "note", "the stub has no weights")
    opened = open_model(find_model(name))
    if current_export(opened, "int8") is None:
        return Check(title, "note", f"no int8 of these weights: tureen export {name} --dtype int8")
    missing = [package for package in ("torch", "onnxruntime") if find_spec(package) is None]
    if missing:
        return Check(title, "note", f"not compared: {', '.join(missing)} is not installed")
    reference = [one.sample for one in opened.manifest.reference]
    samples = [*reference, *fitting(load_model(name, backend="torch", device="cpu"))]
    parity = _against_float32(name, _Run("onnx", "cpu", "int8"), samples)
    close = parity.flip_rate <= MAX_FLIP_RATE and parity.max_error <= MAX_REWARD_ERROR
    told = f"{describe(parity)}; {MAX_FLIP_RATE:.0%} and {MAX_REWARD_ERROR:g} are allowed"
    return Check(title, "ok" if close else "FAIL", told)


def _against_float32(name: str, served: _Run, samples: Sequence[Sample]) -> RewardParity:
    found, exact = [], _Run("torch", "cpu", "float32")
    for backend, device, dtype in (served, exact):
        loaded = load_model(name, backend=backend, device=device, dtype=dtype)
        found.append(rewards(loaded, samples))
        loaded.backend.close()
    return reward_parity(*found)


def _counted_alike(features: np.ndarray, expected: Sequence[Sequence[float]]) -> bool:
    """features: of all units. expected: of the sub-sentences, which come last; others have zeros."""
    others = np.zeros((max(0, len(features) - len(expected)), features.shape[1]))
    whole = np.vstack([others, *expected])
    return whole.shape == features.shape and np.allclose(features, whole, atol=1e-6)


def _raised(title: str, error: Exception) -> Check:
    return Check(title, "FAIL", f"{type(error).__name__}: {str(error)[:200]}")


def _allowed(dtype: str) -> float:
    return max(BACKENDS_AGREE, INVARIANCE.get(dtype, 0.0))


def _plain_rows(model: ServedModel) -> Iterator[tuple[Sample, str, Window]]:
    """Rows of samples of one prompt, and of no context where that would be read."""
    for sample in fitting(model):
        if sample.prompt is None or (sample.context and not model.encoder.spec.compares):
            continue
        for response, window in zip(sample.responses, _windows(model, sample), strict=True):
            yield sample, response, window


def _windows(model: ServedModel, sample: Sample) -> list[Window]:
    granularities = {head.granularity for head in model.heads} | {Granularity.RESPONSE}
    encoded = model.encoder.encode(sample, granularities)
    return [window for response in encoded for window in response.windows]


def _padded(batch: Batch, filler: int) -> Batch:
    """The same with more padding, of this token."""
    width = ((0, 0), (0, _EXTRA_PADDING))
    return Batch(
        np.pad(batch.input_ids, width, constant_values=filler),
        np.pad(batch.attention_mask, width),
        np.pad(batch.token_type_ids, width),
        np.pad(batch.span_weights, ((0, 0), *width)),
        batch.prefix_lengths,
        batch.unit_features,
    )


def _moved(found: np.ndarray, expected: np.ndarray, before: float) -> float:
    """Largest distance so far, as a share of max(1, |value|); NaN once there was one."""
    apart = np.abs(found - expected) / np.maximum(1.0, np.abs(expected))
    return float(np.maximum(before, apart.max()))  # keeps a NaN, which max() would lose


def _config(opened: ModelDirectory) -> dict[str, Any]:
    directory = opened.directory
    if not (directory / "config.json").is_file() and opened.manifest.base is not None:
        directory = resolve_base(opened.manifest.base)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return {**config, **config.get("text_config", {})}
