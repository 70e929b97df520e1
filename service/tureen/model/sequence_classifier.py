"""A third party's `AutoModelForSequenceClassification`, called like a `RewardModel`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, PreTrainedModel

from tureen.model.attention import make_watchable, watching
from tureen.model.directory import ModelDirectory
from tureen.model.manifest import FILE, ModelError
from tureen.model.packing import Packing, hidden_states
from tureen.model.reward_model import load_config, load_pretrained, takes_token_types
from tureen.model.shared_prefixes import Prefixes
from tureen.model.third_party import find_weights


class SequenceClassifier(nn.Module):
    """Encoder classifiers run whole, as transformers would run them.

    Of a decoder the trunk runs, and its linear `score` reads the last token that the attention
    mask counts. transformers looks for the last token that is not the padding id, and so misses an
    end-of-sequence token where that is the padding id too; with another padding id both agree.
    """

    def __init__(self, classifier: PreTrainedModel) -> None:
        super().__init__()
        self.classifier = classifier
        self.config = classifier.config
        self._is_decoder = isinstance(getattr(classifier, "score", None), nn.Linear)
        if self._is_decoder:
            self._score.float()  # heads are fp32 whatever the trunk is
            classifier.config.use_cache = False
        self._takes_token_types = takes_token_types(classifier.base_model, self.config)
        self._gives_attention = False

    def give_attention(self) -> None:
        """From now on `forward` gives the attention that each unit but the first is paid.

        Raises:
            ModelError: of no single scoring position, or of attention that cannot be looked at.
        """
        pooling = getattr(self.config, "classifier_pooling", "cls")
        if getattr(self.config, "is_encoder_decoder", False) or (
            pooling != "cls" and not self._is_decoder
        ):
            raise ModelError(
                f"a {type(self.classifier).__name__} (classifier_pooling {pooling!r}) does not read "
                "its value at one position, whose attention could be looked at; redistribute by "
                "ablation."
            )
        make_watchable(self.classifier)
        self._gives_attention = True

    @property
    def trunk(self) -> PreTrainedModel | None:
        """Of a decoder; an encoder runs whole."""
        trunk = self.classifier.base_model
        return trunk if self._is_decoder and isinstance(trunk, PreTrainedModel) else None

    @property
    def _score(self) -> nn.Module:
        return self.classifier.get_submodule("score")

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor,
        span_weights: Tensor,
        prefixes: Prefixes | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        """Raw logits as (B, N, 1, H) float32: of the row, the same for each of its N units.

        After `give_attention` only unit 0, the response, has them; the others have the attention
        that the scoring position pays to their tokens, the same for every head. `span_weights` tell
        the tokens of a unit: the text layer must not have reduced them to one.

        prefixes, packing: as `RewardModel.forward` has them, for a decoder; not after
        `give_attention`.
        """
        if not self._gives_attention:
            logits = self._logits(
                input_ids, attention_mask, token_type_ids, prefixes, packing
            )  # (B, H)
            return logits[:, None, None, :].expand(-1, span_weights.shape[1], -1, -1)
        with watching() as watched:
            logits = self._logits(input_ids, attention_mask, token_type_ids)
        first = torch.zeros_like(input_ids[:, 0])
        positions = _last_position(attention_mask) if self._is_decoder else first
        attention = watched.attention_of(positions, attention_mask)  # (B, T)
        paid = torch.einsum("bnt,bt->bn", (span_weights > 0).float(), attention)
        values = paid[:, :, None, None].repeat(1, 1, 1, logits.shape[1])  # (B, N, 1, H)
        values[:, 0, 0] = logits
        return values

    def _logits(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor,
        prefixes: Prefixes | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        types = token_type_ids if self._takes_token_types else None
        if self.trunk is not None:
            hidden = hidden_states(
                self.trunk,
                input_ids,
                attention_mask,
                token_type_ids=types,
                prefixes=prefixes,
                packing=packing,
            )  # (B, T, D)
            index = _last_position(attention_mask)[:, None, None].expand(-1, 1, hidden.shape[2])
            pooled = hidden.gather(1, index).squeeze(1).float()  # (B, D)
            with torch.autocast(hidden.device.type, enabled=False):
                return self._score(pooled)  # (B, H)
        extra = {} if types is None else {"token_type_ids": types}
        return self.classifier(
            input_ids=input_ids, attention_mask=attention_mask, **extra
        ).logits.float()  # (B, H)


def _last_position(attention_mask: Tensor) -> Tensor:
    """(B, T) -> (B,): where the last token that counts stands."""
    positions = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    return (positions * attention_mask).argmax(dim=1)


def load(opened: ModelDirectory, dtype: torch.dtype) -> SequenceClassifier:
    """The classifier of an opened directory, its heads those of the manifest.

    Raises:
        ModelError: no such architecture in transformers, weights that do not fit it, or a written
            manifest that is of other weights or of another number of heads.
    """
    manifest, directory = opened.manifest, opened.directory
    config = load_config(directory)
    kind = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(config), None)
    if kind is None:
        raise ModelError(
            f"{directory} is of type {config.model_type!r}, which transformers cannot run as a "
            "classifier."
        )
    if (directory / FILE).is_file():  # else the manifest was made from the very files
        _, found = find_weights(directory)
        (stated,) = (ingredient.sha256 for ingredient in manifest.ingredients)
        if found != stated:
            raise ModelError(
                f"the weights of {directory} have sha256 {found}; {FILE} states {stated}. "
                "They are damaged or of another version: fetch the model again."
            )
        if len(manifest.heads) != config.num_labels:
            raise ModelError(
                f"{directory / FILE} has {len(manifest.heads)} heads, the classifier "
                f"{config.num_labels} labels; describe each label once, in their order."
            )
    classifier = load_pretrained(kind, directory, config, dtype=dtype)
    return SequenceClassifier(classifier)
