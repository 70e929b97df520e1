"""Export a model directory to ONNX and measure that both give the same values.

my-model/onnx/
  model.onnx     fp32; inputs and their order are `RewardModel.forward`'s, output "values"
  export.json    of which weights it is, hashes of the files, and the parity that was found

Attention is one operator of ONNX Runtime (`onnx_attention`) where the architecture lets it be.
"""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim
from transformers import PretrainedConfig

from tureen.errors import MissingExtra
from tureen.model import checkpoint
from tureen.model.directory import EXPORT_FOLDERS, EXPORT_MODEL, EXPORT_RECORD
from tureen.model.files import replacing, sha256_file
from tureen.model.manifest import ModelError
from tureen.model.onnx_attention import fused_attention
from tureen.model.reward_model import RewardModel
from tureen.model.sequence_classifier import SequenceClassifier
from tureen.model.storage import refuse_foreign
from tureen.text.batch import UNITS
from tureen.text.template import TextSpec
from tureen.text.unit_features import UNIT_FEATURES

log = logging.getLogger(__name__)

TOLERANCE: Final = 1e-4
"""Largest absolute difference of a raw value between torch and ONNX Runtime, both fp32 on a CPU."""

INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids", "span_weights", UNITS)
"""The last one where the model reads it."""
OUTPUT: Final = "values"

_LENGTHS: Final = ((1,), (7,), (5, 5), (3, 17, 40), (64, 9, 33, 1), (128, 20))
"""Tokens of the rows of the batches that parity is measured on, but for the longest row."""
_LONGEST: Final = 512
_INLINE_BYTES: Final = 1_500_000_000
"""Above this the weights stand beside the graph: protobuf ends at 2 GB."""


@dataclass(frozen=True, slots=True)
class ParityReport:
    """How far ONNX Runtime is from torch.

    max_abs_error: over `values` raw values in `batches` batches, with and without padding.
    fused: whether attention is one operator.
    """

    path: Path
    fingerprint: str
    max_abs_error: float
    tolerance: float
    values: int
    batches: int
    fused: bool


def export(directory: str | Path, out: str | Path | None = None) -> ParityReport:
    """Write `<directory>/onnx`, or `out`, if ONNX Runtime gives the values that torch gives.

    Written in one step, or not at all.

    Raises:
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
        ModelError: the directory is no model, its architecture cannot be exported, or parity fails;
            what was there before stays.
    """
    _require_packages()
    loaded = checkpoint.load(directory)
    target = Path(out) if out is not None else loaded.directory / EXPORT_FOLDERS["float32"]
    refuse_foreign(target, marker=EXPORT_RECORD)
    limit = min(loaded.manifest.text.max_input_tokens, _LONGEST)
    batches = [
        _batch(lengths, loaded.model.config, loaded.manifest.text, seed=i)
        for i, lengths in enumerate((*_LENGTHS, (limit, limit // 2)))
        if max(lengths) <= limit
    ]
    with replacing(target) as fresh:
        path = fresh / EXPORT_MODEL
        report = None
        for fused in (True, False):
            try:
                _write(loaded.model, batches, path, fused=fused)
                error, count = _compare(loaded.model, path, batches)
            except ModelError as refusal:
                if not fused:
                    raise
                log.info("%s: plain attention, for %s", loaded.directory, refusal)
                continue
            report = ParityReport(
                path=target / EXPORT_MODEL,
                fingerprint=loaded.fingerprint,
                max_abs_error=error,
                tolerance=TOLERANCE,
                values=count,
                batches=len(batches),
                fused=fused,
            )
            if error <= TOLERANCE:  # not when it is not a number
                break
        assert report is not None  # without a report the plain export has raised
        if not report.max_abs_error <= TOLERANCE:
            raise ModelError(
                f"{loaded.directory} exported to ONNX differs from torch by "
                f"{report.max_abs_error:.3g} in a value; {TOLERANCE:g} is allowed. Nothing was "
                "written: serve it with torch."
            )
        record = {
            "fingerprint": report.fingerprint,
            "files": {file.name: sha256_file(file) for file in sorted(fresh.iterdir())},
            "torch": torch.__version__,
            "parity": {
                key: getattr(report, key)
                for key in ("max_abs_error", "tolerance", "values", "batches")
            },
            "fused_attention": report.fused,
        }
        (fresh / EXPORT_RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return report


def _require_packages() -> None:
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtra("Export to ONNX", "export") from error


def _write(
    model: RewardModel | SequenceClassifier,
    batches: list[tuple[Tensor, ...]],
    path: Path,
    *,
    fused: bool,
) -> None:
    trunk = model.backbone if isinstance(model, RewardModel) else model.classifier
    example = next(batch for batch in batches if batch[0].shape[0] > 1)
    rows, tokens, units = Dim("batch"), Dim("tokens"), Dim("units")
    shapes = {name: {0: rows, 1: tokens} for name in INPUTS[:3]}
    shapes[INPUTS[3]] = {0: rows, 1: units, 2: tokens}
    if len(example) == len(INPUTS):
        shapes[UNITS] = {0: rows, 1: units}
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    try:
        attention = fused_attention(trunk) if fused else contextlib.nullcontext()
        with attention, _contained(), torch.no_grad():
            program = torch.onnx.export(
                model,
                example,
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=INPUTS[: len(example)],
                output_names=[OUTPUT],
                verbose=False,
            )
            assert program is not None  # it is with dynamo
            program.save(path, external_data=size > _INLINE_BYTES)
    except Exception as error:  # the exporter's errors have no common base
        raise ModelError(
            f"this architecture cannot be exported to ONNX ({type(error).__name__}: "
            f"{str(error).partition(chr(10))[0]}); serve it with torch."
        ) from error


@contextlib.contextmanager
def _contained() -> Iterator[None]:
    """Keep to itself what the exporter says about its own insides, and nothing else."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)  # that torchvision, which we do not use, is not installed
    try:
        with warnings.catch_warnings():
            # torch 2.13 pickles its own deprecated LeafSpec while it copies an exported program
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
            # inputs share their dimensions, which is what we asked for
            warnings.filterwarnings("ignore", r"# The axis name: \w+ will not be used", UserWarning)
            yield
    finally:
        registration.setLevel(level)


def _batch(
    lengths: tuple[int, ...], config: PretrainedConfig, spec: TextSpec, seed: int
) -> tuple[Tensor, ...]:
    """Rows of random tokens that end with the end-of-sequence token, padded on the right.

    Each has three units: the first token, the last, and all. A padding id inside a row would shift
    the positions of a RoBERTa; a BART reads the only end-of-sequence token of a row.
    """
    text = config.get_text_config()
    ordinary = torch.tensor(
        [i for i in range(text.vocab_size) if i not in (text.pad_token_id, text.eos_token_id)]
    )
    generator = torch.Generator().manual_seed(seed)
    size = (len(lengths), max(lengths))
    input_ids = ordinary[torch.randint(len(ordinary), size, generator=generator)]  # (B, T)
    attention_mask = torch.zeros(size, dtype=torch.int64)
    span_weights = torch.zeros(len(lengths), 3, max(lengths))  # (B, N, T)
    for row, length in enumerate(lengths):
        attention_mask[row, :length] = 1
        if isinstance(text.eos_token_id, int) and text.eos_token_id < text.vocab_size:
            input_ids[row, length - 1] = text.eos_token_id
        input_ids[row, length:] = text.pad_token_id or 0
        span_weights[row, 0, 0] = 1
        span_weights[row, 1, length - 1] = 1
        span_weights[row, 2, :length] = 1 / length
    types = getattr(text, "type_vocab_size", 0)
    second = (torch.arange(max(lengths)) >= max(lengths) // 2).long().expand(size)
    token_type_ids = (
        second * attention_mask if types > 1 else torch.zeros_like(second)
    ).contiguous()
    if not spec.describes_units:
        return input_ids, attention_mask, token_type_ids, span_weights
    features = torch.rand(len(lengths), 3, UNIT_FEATURES, generator=generator)
    return input_ids, attention_mask, token_type_ids, span_weights, features


def _compare(model: nn.Module, path: Path, batches: list[tuple[Tensor, ...]]) -> tuple[float, int]:
    """Largest absolute difference over all values, and how many those are."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst, count = 0.0, 0
    for batch in batches:
        with torch.inference_mode():
            expected = model(*batch)
        feeds = {name: tensor.numpy() for name, tensor in zip(INPUTS, batch, strict=False)}
        got = np.asarray(session.run([OUTPUT], feeds)[0])
        if got.shape != tuple(expected.shape):
            raise ModelError(
                f"the export answers {got.shape} where torch answers {tuple(expected.shape)}; "
                "the architecture fixes a shape: serve it with torch."
            )
        difference = (torch.from_numpy(got) - expected).abs()
        worst = max(worst, float(difference.nan_to_num(nan=float("inf")).max()))
        count += difference.numel()
    return worst, count
