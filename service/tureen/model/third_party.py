"""Reward models of others: an `AutoModelForSequenceClassification` described by a `Manifest`.

Only the description; `sequence_classifier` runs them. Needs no torch.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from tureen.contracts import Granularity
from tureen.model.base import WEIGHTS
from tureen.model.files import sha256_file
from tureen.model.manifest import TOKENIZER_FILES, HeadSpec, Ingredient, Manifest, ModelError
from tureen.model.schema import SchemaError
from tureen.text.template import TextSpec

_INDEX: Final = "model.safetensors.index.json"
_OFFSET_POSITIONS: Final = frozenset(
    {
        "roberta",
        "xlm-roberta",
        "xlm-roberta-xl",
        "camembert",
        "mpnet",
        "longformer",
        "data2vec-text",
    }
)
"""Types whose positions start behind the padding id, so that many of them are not for tokens."""

_NO_LIMIT: Final = 10**9
"""transformers writes 10^30 for a tokenizer that does not know."""


def fetch(repo: str) -> Path:
    """Directory of a hub repository: from the cache, else downloaded; weights as safetensors only.

    Raises:
        ModelError: neither cached nor reachable.
    """
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    patterns = ["*.safetensors", _INDEX, "config.json", *TOKENIZER_FILES]
    try:
        return Path(huggingface_hub.snapshot_download(repo, allow_patterns=patterns))
    except (OSError, HFValidationError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{repo!r} is no directory, and the Hugging Face hub did not give it: {reason}. "
            "Give a model directory or the id of a repository that can be reached."
        ) from error


def describe(directory: Path, model_id: str) -> Manifest:
    """The manifest such a directory would have, from its config and tokenizer files.

    One label named LABEL_0 becomes the head "reward"; otherwise heads are named by `id2label`,
    each weighing 1/n. Values are raw logits, uncalibrated (mean 0, std 1), of the whole response.

    Raises:
        ModelError: adapters, pickled weights, no classifier, no tokenizer.
    """
    config = _read_json(directory / "config.json")
    if config is None:
        _refuse_adapter(directory)
        raise ModelError(
            f"{directory} has neither tureen.json nor config.json; give the directory of a model."
        )
    heads = _heads(directory, config)
    weights, sha256 = find_weights(directory)
    tokenizer = _read_json(directory / "tokenizer_config.json") or {}
    chat = "chat_template" in tokenizer or (directory / "chat_template.jinja").is_file()
    decoder = _is_decoder(directory, weights)
    try:
        return Manifest(
            model_id=model_id,
            kind="sequence_classifier",
            text=TextSpec(
                template=("chat" if chat else "plain") if decoder else "pair",
                max_input_tokens=_max_input_tokens(config, tokenizer),
                max_windows=1,
                response_pooling="last" if decoder else "first",
                unit_pooling="last" if decoder else "mean",
            ),
            heads=heads,
            ingredients=(Ingredient(name=model_id, file=weights, coefficient=1.0, sha256=sha256),),
        )
    except ValueError as error:  # SchemaError, or of TextSpec
        raise ModelError(f"{directory}: {error}") from error


def _heads(directory: Path, config: dict[str, Any]) -> tuple[HeadSpec, ...]:
    architectures = config.get("architectures") or ["?"]
    if not architectures[0].endswith("ForSequenceClassification"):
        raise ModelError(
            f"{directory} holds a {architectures[0]}, which gives no reward; give a "
            "…ForSequenceClassification, or train a reward model from it with `tureen-train reward`, "
            "whose --base names it by repo, revision and sha256."
        )
    labels = config.get("id2label")
    if labels is None:
        labels = {i: f"LABEL_{i}" for i in range(config.get("num_labels", 2))}  # transformers' own
    names = [str(label) for _, label in sorted(labels.items(), key=lambda item: int(item[0]))]
    if names == ["LABEL_0"]:
        names = ["reward"]
    try:
        return tuple(
            HeadSpec(name=name, granularity=Granularity.RESPONSE, weight=1 / len(names))
            for name in names
        )
    except SchemaError as error:
        raise ModelError(f"{directory}: {error} Labels stand in config.json, id2label.") from error


def find_weights(directory: Path) -> tuple[str, str]:
    """Name of the file that leads to the weights, and one hash over all of them."""
    if (directory / WEIGHTS).is_file():
        return WEIGHTS, sha256_file(directory / WEIGHTS)
    index = _read_json(directory / _INDEX)
    if index is not None:
        digest = hashlib.sha256()
        for shard in sorted(set(index["weight_map"].values())):
            if not (directory / shard).is_file():
                raise ModelError(
                    f"{directory} lacks {shard}, which {_INDEX} names; fetch it again."
                )
            digest.update(sha256_file(directory / shard).encode())
        return _INDEX, digest.hexdigest()
    _refuse_adapter(directory)
    pickled = sorted(path.name for path in directory.glob("*.bin"))
    if pickled:
        raise ModelError(
            f"{directory} has its weights only as a pickle ({pickled[0]}), which could run "
            "anything; save them as safetensors: model.save_pretrained(directory)."
        )
    raise ModelError(f"{directory} has no weights; {WEIGHTS} is needed: fetch the model again.")


def _refuse_adapter(directory: Path) -> None:
    if (directory / "adapter_config.json").is_file():
        raise ModelError(
            f"{directory} is an adapter (adapter_config.json); merge it into its base first "
            "(merge_and_unload() of peft) and save the whole model."
        )


def _max_input_tokens(config: dict[str, Any], tokenizer: dict[str, Any]) -> int:
    """The smaller of what positions and tokenizer allow."""
    config = config.get("text_config", config)
    positions = config.get("max_position_embeddings") or config.get("n_positions")
    stated = tokenizer.get("model_max_length")
    if positions is not None and config.get("model_type") in _OFFSET_POSITIONS:
        positions -= config.get("pad_token_id", 1) + 1
    known = [limit for limit in (positions, stated) if limit is not None and limit < _NO_LIMIT]
    if not known:
        raise SchemaError(
            "neither max_position_embeddings in config.json nor model_max_length in "
            "tokenizer_config.json says how long an input may be; state one."
        )
    return min(known)


def _is_decoder(directory: Path, weights: str) -> bool:
    """Decoders score the last token with a linear layer that transformers names `score`."""
    if weights == _INDEX:
        index = _read_json(directory / _INDEX)
        assert index is not None  # find_weights read it
        return "score.weight" in index["weight_map"]
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(directory / weights, framework="numpy") as file:
            return "score.weight" in file.keys()  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ModelError(
            f"{directory / weights} is not a whole safetensors file ({error}); fetch it again."
        ) from error


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
