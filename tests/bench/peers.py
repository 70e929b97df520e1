"""Others that serve the same weights, each from an environment of its own.

infinity-emb reranks with a sequence classifier. It gets the trunk of the model, as this server forms it, under
a head of one output; this server serves the same directory beside it, and both are asked the same
`POST /rerank`: question and response, which are the rows the trunk of grounded-qa reads, too. Where the
environment is missing, or infinity does not start, the figure is null and the card says why.

    make bench-peers        # creates .venv-infinity
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.processes import free_port, running
from bench.variants import STUB, Variant, export

if TYPE_CHECKING:
    from bench.plan import Plan

ENVIRONMENT = Path(__file__).resolve().parents[2] / ".venv-infinity"
INFINITY, SERVED = "infinity", "served classifier"


@dataclass(frozen=True)
class Peer:
    """ports: of infinity and of this server with the same directory, with process ids; None where it
    is not measured. model: what a request names. card: why, or how."""

    card: dict[str, Any]
    ports: dict[str, tuple[int, int]] | None = None
    model: str = ""


NOT_ASKED = Peer({"not measured": "--no-peers"})


def infinity(plan: Plan, stack: ExitStack) -> Peer:
    program = ENVIRONMENT / "bin/infinity_emb"
    if plan.default == STUB:
        return Peer({"not measured": "the stub has no weights to share"})
    if not program.is_file():
        return Peer({"not measured": f"no {ENVIRONMENT.name}; make bench-peers creates it"})
    directory = classifier(plan.default.model, plan.scratch)
    port = free_port()
    options = {
        "engine": "torch",
        "device": "cpu",
        "dtype": "float32",
        "batch-size": "32",
        "log-level": "warning",
        "served-model-name": directory.name,
    }
    command = [str(program), "v2", "--model-id", str(directory), "--port", str(port)]
    command += ["--no-bettertransformer", "--no-compile", "--no-vector-disk-cache"]
    for name, value in options.items():
        command += [f"--{name}", value]
    offline = {"DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "HF_HUB_OFFLINE": "1"}
    try:
        process = stack.enter_context(running(command, port, ready="/health", env=offline))
    except RuntimeError as error:
        return Peer({"not measured": f"infinity-emb: {str(error).strip().splitlines()[-1]}"})
    server = stack.enter_context(
        plan.serving(Variant(SERVED, str(export(str(directory), plan.scratch / "served")[0])))
    )
    return Peer(
        {
            "options": options,
            "head": "one output on the soup's trunk",
            "rows": "question, response",
        },
        {INFINITY: (port, process.pid), SERVED: (server.http_port, server.process.pid)},
        directory.name,
    )


def classifier(model: str, scratch: Path) -> Path:
    """A plain sequence classifier with the trunk of a model: any library of the field can serve it.

    The pooler and the head are drawn at random from a fixed seed; what they cost does not depend on it.
    """
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    from tureen.model import checkpoint
    from tureen.model.reward_model import RewardModel
    from tureen.model.storage import copy_tokenizer

    loaded = checkpoint.load(model)
    assert isinstance(loaded.model, RewardModel)  # a third party's would be one already
    torch.manual_seed(0)
    config = loaded.model.config
    config.num_labels = 1
    made = AutoModelForSequenceClassification.from_config(config)
    trunk = getattr(made, made.base_model_prefix)
    fit = trunk.load_state_dict(loaded.model.backbone.state_dict(), strict=False)
    if fit.unexpected_keys:
        raise RuntimeError(f"{model} has no trunk that a classifier takes: {fit}")
    directory = scratch / "classifier"
    logging.disable_progress_bar()
    made.save_pretrained(directory)
    copy_tokenizer(loaded.tokenizer_directory, directory)
    return directory
