"""An int8 export of a model, written only when its rewards stay close to those of float32.

my-model/onnx-int8/
  model.onnx     as `model.quantize_onnx` makes it
  export.json    of which weights it is, hashes of the files, the texts, and the parity that was found
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tureen.contracts import Sample
from tureen.engine.loading import load_model
from tureen.engine.parity import RewardParity, describe, reward_parity, rewards
from tureen.engine.served import ServedModel
from tureen.model.directory import (
    EXPORT_FOLDERS,
    EXPORT_MODEL,
    EXPORT_RECORD,
    Export,
    ModelDirectory,
    current_export,
    export_fingerprint,
    open_model,
)
from tureen.model.export_onnx import export
from tureen.model.files import replacing, sha256_file
from tureen.model.manifest import ModelError
from tureen.model.quantize_onnx import needs_reduced_range, quantise
from tureen.model.storage import refuse_foreign
from tureen.text.batch import Batch, collate

MAX_FLIP_RATE: Final = 0.05
MAX_REWARD_ERROR: Final = 0.3
"""What bfloat16 is allowed at start-up, `selfcheck.REFERENCE`."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Int8Report:
    """path, fingerprint: of the int8 weights. matrices: that are int8. texts: which responses were
    scored. parity: of their rewards, against float32."""

    path: Path
    fingerprint: str
    matrices: int
    reduce_range: bool
    texts: str
    parity: RewardParity


def export_int8(
    directory: str | Path,
    samples: Sequence[Sample] = (),
    *,
    out: str | Path | None = None,
    max_flip_rate: float = MAX_FLIP_RATE,
    max_reward_error: float = MAX_REWARD_ERROR,
) -> Int8Report:
    """Write `<directory>/onnx-int8`, or `out`, in one step or not at all.

    Where no float32 export of these weights lies there, one is written too.

    Args:
        samples: texts like those that will be scored. Those in even places calibrate, the others
            decide. Without any, the reference samples of the model do both.
        max_flip_rate, max_reward_error: of `RewardParity`; more is refused.
    Raises:
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
        ModelError: no model, no texts, nothing to quantise, or rewards too far from float32; what
            was there before stays.
    """
    opened = open_model(directory)
    calibration, decisive, texts = _texts(opened, samples)
    target = Path(out) if out is not None else opened.directory / EXPORT_FOLDERS["int8"]
    refuse_foreign(target, marker=EXPORT_RECORD)
    source = current_export(opened)
    if source is None:
        export(opened.directory)
        source = current_export(opened)
        assert source is not None  # it was just written
    model = load_model(opened.directory, backend="onnx", device="cpu")
    expected = rewards(model, decisive)
    reduce_range = needs_reduced_range()
    with replacing(target) as fresh:
        path = fresh / EXPORT_MODEL
        matrices = quantise(
            source.path, path, _windows(model, calibration), reduce_range=reduce_range
        )
        files = {path.name: sha256_file(path)}
        made = Export(
            path,
            export_fingerprint(opened.fingerprint, "int8", files),
            {"reduce_range": reduce_range},
        )
        parity = reward_parity(rewards(_with(model, made), decisive), expected)
        report = Int8Report(
            path=target / EXPORT_MODEL,
            fingerprint=made.fingerprint,
            matrices=matrices,
            reduce_range=reduce_range,
            texts=texts,
            parity=parity,
        )
        if not (parity.flip_rate <= max_flip_rate and parity.max_error <= max_reward_error):
            raise ModelError(
                f"{opened.directory} in int8: {describe(parity)}, on {texts}; at most "
                f"{max_flip_rate:.2%} and {max_reward_error:g} are allowed (--max-flip-rate, "
                "--max-reward-error). Nothing was written: calibrate on more texts like those that "
                "will be scored (--data), or serve it in bfloat16."
            )
        record = {
            "fingerprint": opened.fingerprint,
            "files": files,
            "dtype": "int8",
            "reduce_range": reduce_range,
            "texts": texts,
            "parity": {**dataclasses.asdict(parity), "flip_rate": parity.flip_rate},
        }
        (fresh / EXPORT_RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return report


def _texts(
    opened: ModelDirectory, samples: Sequence[Sample]
) -> tuple[Sequence[Sample], Sequence[Sample], str]:
    """What calibrates, what decides, and how to call them."""
    if len(samples) == 1:
        raise ModelError("one sample cannot both calibrate and decide; give more of them (--data).")
    if samples:
        decisive = samples[1::2]
        return samples[::2], decisive, f"{_responses(decisive)} responses of the given texts"
    reference = [one.sample for one in opened.manifest.reference]
    if not reference:
        raise ModelError(
            f"{opened.manifest.model_id} has no reference samples, and int8 is calibrated and judged "
            "on texts; give samples like those that will be scored (--data)."
        )
    return reference, reference, f"the {_responses(reference)} responses of the model's reference"


def _responses(samples: Sequence[Sample]) -> int:
    return sum(len(sample.responses) for sample in samples)


def _windows(model: ServedModel, samples: Sequence[Sample]) -> list[Batch]:
    """Each window alone: no padding, whose activations would count."""
    granularities = {head.granularity for head in model.heads}
    return [
        collate([window], model.pad_id)
        for sample in samples
        for response in model.encoder.encode(sample, granularities)
        for window in response.windows
    ]


def _with(model: ServedModel, made: Export) -> ServedModel:
    from tureen.engine.onnx_backend import OnnxBackend  # loading.py: when it is chosen

    backend = OnnxBackend(made, model.manifest, device="cpu", dtype="int8")
    return dataclasses.replace(model, backend=backend)
