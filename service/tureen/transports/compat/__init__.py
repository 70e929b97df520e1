"""Routes that answer other systems' clients in their own shape, over the same engine and admission.

    module        routes                                              clients
    openrlhf      /get_reward                                         OpenRLHF
    slime         /rm                                                 slime
    vllm          /classify /v1/embeddings /pooling                   vLLM, verl
    pairs         /score /v1/score (body without `samples`)           vLLM
    sglang        /classify (body with `text`)                        SGLang
    rerank        /rerank /v1/rerank /v2/rerank                       vLLM, Cohere, Jina
    tei           /predict /rerank (body with `texts`) /info          text-embeddings-inference
                  / /invocations
    infinity      /infinity/{rerank,classify,models}                  Infinity
    kserve        /v2/models/{model}/infer and its kin                KServe, Triton
    llamafactory  /v1/score/evaluation                                LLaMA-Factory
    nim           /v1/chat/completions                                NIM reward models

One number a text, and that is `Score.reward`: raw unless an activation is asked for by name. A
request of which one text cannot be scored fails as a whole, for these shapes have no place for an
error beside numbers.
"""

from __future__ import annotations

from tureen.transports.compat import (
    infinity,
    kserve,
    llamafactory,
    nim,
    openrlhf,
    pairs,
    rerank,
    slime,
    tei,
    vllm,
)
from tureen.transports.compat.door import Answer, Door, Handling, LookUp, Work
from tureen.transports.compat.pairs import native_or_pairs
from tureen.transports.compat.shapes import NATIVE

__all__ = ["NATIVE", "Answer", "Door", "Handling", "LookUp", "Work", "install", "native_or_pairs"]

MODULES = (openrlhf, slime, vllm, pairs, rerank, tei, infinity, kserve, llamafactory, nim)


def install(door: Door) -> None:
    """Adds the routes to the door's application."""
    for module in MODULES:
        module.install(door)
