"""`tureen score`: responses scored in this process, shown for people or as JSON."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

from rich.console import Console

from tureen.commands.in_process import add_model_options, load, read_samples, scoring
from tureen.commands.output import print_json
from tureen.commands.table import print_scores
from tureen.contracts import Aggregation, Sample, ScoreRequest, ScoreResponse, Truncate
from tureen.errors import failure_of
from tureen.usage import Parser, UsageError


def main(argv: Sequence[str]) -> int:
    arguments = _parser().read(argv)
    request = _request(arguments)
    response = asyncio.run(_score(arguments, request))
    if failure := failure_of(response):
        raise failure
    if arguments.json:
        print_json(response)
    else:
        print_scores(Console(highlight=False), request.samples, response)
    return int(any(result.error is not None for result in response.results))


async def _score(arguments: argparse.Namespace, request: ScoreRequest) -> ScoreResponse:
    responses = sum(len(sample.responses) for sample in request.samples)
    async with scoring(load(arguments), responses, remember=True) as scorer:
        return await scorer.score(request)


def _parser() -> Parser:
    parser = Parser(
        prog="tureen score",
        description="Score responses here, without a server. Exit status 1 when a sample failed.",
    )
    parser.add_argument(
        "model",
        nargs="?",
        default="grounded-qa",
        metavar="MODEL",
        help="a directory, a name, or a Hugging Face id [default %(default)s]",
    )
    parser.add_argument("--prompt", help="what was asked")
    parser.add_argument(
        "--context", action="append", default=[], help="a passage of evidence; repeatable"
    )
    parser.add_argument(
        "--response", action="append", default=[], help="a response to score; repeatable"
    )
    parser.add_argument(
        "--file",
        metavar="FILE",
        help="samples instead, one JSON object a line, as in samples[] of /v1/score; - is stdin",
    )
    parser.add_argument("--json", action="store_true", help="print the answer of /v1/score")
    parser.add_argument("--head", action="append", help="compute only this head; repeatable")
    parser.add_argument(
        "--weight",
        action="append",
        metavar="HEAD=W",
        help="weigh the heads so, and all others nothing; repeatable",
    )
    parser.add_argument(
        "--aggregation",
        choices=[one.value for one in Aggregation],
        default=Aggregation.MEAN,
        help="of the members [default mean]",
    )
    parser.add_argument(
        "--penalty", type=float, default=0.5, help="of uncertainty_weighted [default %(default)s]"
    )
    parser.add_argument("--uncertainty", action="store_true", help="show the members' spread")
    parser.add_argument("--members", action="store_true", help="show each member's reward")
    parser.add_argument(
        "--truncate",
        choices=[one.value for one in Truncate],
        default=Truncate.NEVER,
        help="what may be dropped when a sample is too long [default never]",
    )
    add_model_options(parser)
    return parser


def _request(arguments: argparse.Namespace) -> ScoreRequest:
    return ScoreRequest(
        samples=_samples(arguments),
        heads=tuple(arguments.head) if arguments.head else None,
        weights=dict(map(_weight, arguments.weight)) if arguments.weight else None,
        aggregation=Aggregation(arguments.aggregation),
        penalty=arguments.penalty,
        uncertainty=arguments.uncertainty,
        members=arguments.members,
        truncate=Truncate(arguments.truncate),
    )


def _samples(arguments: argparse.Namespace) -> tuple[Sample, ...]:
    direct = arguments.prompt is not None or arguments.context or arguments.response
    if arguments.file is not None:
        if direct:
            raise UsageError(
                "--file holds whole samples: leave --prompt, --context, --response out"
            )
        return read_samples(arguments.file)
    if arguments.prompt is None or not arguments.response:
        raise UsageError("give --prompt and at least one --response, or --file FILE")
    return (
        Sample(
            prompt=arguments.prompt,
            context=tuple(arguments.context),
            responses=tuple(arguments.response),
        ),
    )


def _weight(text: str) -> tuple[str, float]:
    head, _, number = text.rpartition("=")
    try:
        return head, float(number)
    except ValueError:
        raise UsageError(f"--weight is {text!r}; write it as HEAD=NUMBER") from None
