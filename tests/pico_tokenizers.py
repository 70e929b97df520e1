"""Tiny fast tokenizers made in memory, one for each family of layouts that Tureen reads."""

from __future__ import annotations

import string
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

_WORDS = (
    "the of in is it and was who what when painted painting by night watch rembrandt vermeer he "
    "she they we you like tulips cat dog river sky blue because light red green not no yes"
)

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Shaped like Qwen's, with a beginning-of-sequence like Llama's."""

STRIPPING_CHAT_TEMPLATE = CHAT_TEMPLATE.replace("message['content']", "message['content'] | trim")
"""Trims what it is given, as the templates of Llama and Gemma do."""


def bert_like() -> PreTrainedTokenizerFast:
    """WordPiece over some words, ASCII characters and their continuations; lower-cases."""
    characters = [c for c in string.printable if not c.isspace() and not c.isupper()]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
    pieces += [f"##{c}" for c in characters] + _WORDS.split()
    vocab = {piece: index for index, piece in enumerate(pieces)}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def byte_bpe() -> PreTrainedTokenizerFast:
    """256 bytes without merges, then <s>, </s>, <pad>; a row is <s> … </s>; no type ids."""
    backend, special = _byte_level("<s>", "</s>", "<pad>")
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=special[:2]
    )
    return _wrap(backend)


def roberta_like() -> PreTrainedTokenizerFast:
    """The same laid out as by RoBERTa: <s> … </s> </s> … </s>; offsets leave out spaces."""
    backend, special = _byte_level("<s>", "</s>", "<pad>")
    backend.post_processor = processors.RobertaProcessing(special[1], special[0])
    return _wrap(backend)


def chat(template: str = CHAT_TEMPLATE) -> PreTrainedTokenizerFast:
    """Bytes for a decoder: rows begin with <s>, which the chat template writes itself."""
    backend, special = _byte_level("<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>")
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=special[:1]
    )
    tokenizer = _wrap(backend)
    tokenizer.chat_template = template
    return tokenizer


def save(tokenizer: PreTrainedTokenizerFast, directory: Path) -> Path:
    """Writes tokenizer.json and its configuration; returns the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(directory)
    return directory


def _byte_level(*special: str) -> tuple[Tokenizer, list[tuple[str, int]]]:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {symbol: index for index, symbol in enumerate(alphabet)}
    backend = Tokenizer(models.BPE(vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(special))
    return backend, [(token, len(alphabet) + index) for index, token in enumerate(special)]


def _wrap(backend: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_input_names=["input_ids", "attention_mask"],
    )
