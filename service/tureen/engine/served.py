"""A model that is loaded: backend, text encoder and manifest, and how it describes itself."""

from __future__ import annotations

from dataclasses import dataclass

from tureen.contracts import (
    Granularity,
    HeadInfo,
    IngredientInfo,
    Limits,
    ModelInfo,
    Redistribution,
)
from tureen.engine.backend import Backend
from tureen.engine.limits import EngineLimits
from tureen.model.manifest import HeadSpec, Manifest
from tureen.text.encoding import TextEncoder


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What `load_model` gives and a `Scorer` takes.

    redistribution: how values of the whole response are spread over its sentences, if they are.
    """

    backend: Backend
    encoder: TextEncoder
    manifest: Manifest
    redistribution: Redistribution | None = None

    @property
    def model_id(self) -> str:
        return self.manifest.model_id

    @property
    def fingerprint(self) -> str:
        return self.backend.info.fingerprint

    @property
    def heads(self) -> tuple[HeadSpec, ...]:
        return self.manifest.heads

    @property
    def pad_id(self) -> int:
        """Of the tokenizer; any id will do where it has none: padding is never attended to."""
        pad_id = self.encoder.tokenizer.pad_token_id
        return pad_id if isinstance(pad_id, int) else 0

    def info(self, limits: EngineLimits) -> ModelInfo:
        backend, manifest = self.backend.info, self.manifest
        batch = limits.batch_limits(backend.batches)
        return ModelInfo(
            id=manifest.model_id,
            fingerprint=backend.fingerprint,
            soup=manifest.soup,
            base=manifest.base.repo if manifest.base is not None else manifest.model_id,
            backend=backend.name,
            dtype=backend.dtype,
            device=backend.device,
            members=backend.members,
            temperature=manifest.temperature,
            heads=tuple(
                HeadInfo(
                    name=head.name,
                    granularity=head.granularity,
                    weight=head.weight,
                    calibration=head.calibration,
                    redistribution=(
                        self.redistribution if head.granularity is Granularity.RESPONSE else None
                    ),
                )
                for head in manifest.heads
            ),
            ingredients=tuple(
                IngredientInfo(
                    name=ingredient.name,
                    coefficient=ingredient.coefficient,
                    fingerprint=f"sha256:{ingredient.sha256}",
                    lineage=ingredient.lineage,
                )
                for ingredient in manifest.ingredients
            ),
            data_licences=manifest.data_licences,
            limits=Limits(
                max_input_tokens=manifest.text.max_input_tokens,
                max_windows=manifest.text.max_windows,
                max_batch_tokens=batch.max_batch_tokens,
                max_batch_requests=batch.max_batch_requests,
                max_concurrent_requests=limits.max_concurrent_requests,
                max_client_batch_size=limits.max_client_batch_size,
                max_body_bytes=limits.max_body_bytes,
            ),
        )
