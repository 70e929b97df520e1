"""A score for people: the reward, the heads behind it, the response with its parts coloured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tureen.contracts import PENALTY_SEGMENT, Sample, SampleResult, Score, ScoreResponse, Segment

BAD, GOOD = -0.05, 0.05  # of a segment's share of the reward: below is red, above green


def print_scores(console: Console, samples: Sequence[Sample], response: ScoreResponse) -> None:
    for sample, result in zip(samples, response.results, strict=True):
        console.print(
            Panel(Group(*_sample(sample, result)), title=_title(sample), title_align="left")
        )
    console.print(
        f"{response.model}  {response.soup}  {response.fingerprint}", style="dim", highlight=False
    )


def _title(sample: Sample) -> Text:
    asked = sample.prompt if sample.prompt is not None else _last_message(sample)
    name = f"{sample.id}: " if sample.id else ""
    return Text(name + " ".join(asked.split())[:100], style="bold")


def _last_message(sample: Sample) -> str:
    return sample.messages[-1].content if sample.messages else ""


def _sample(sample: Sample, result: SampleResult) -> Iterator[RenderableType]:
    if result.error is not None:
        yield Text(f"{result.error.code}: {result.error.message}", style="red")
        return
    for text, score in zip(sample.responses, result.scores or (), strict=True):
        yield _headline(score)
        yield _heads(score)
        yield from _coloured(text, score)


def _headline(score: Score) -> Text:
    line = Text.assemble("reward ", (f"{score.reward:+.4f}", "bold " + _colour(score.reward)))
    if score.uncertainty is not None:
        doubt = score.uncertainty
        line.append(
            f"  ± {doubt.std:.4f} over {doubt.members} members, "
            f"from {doubt.low:+.4f} to {doubt.high:+.4f}"
            if doubt.members > 1
            else "  one member, whose doubt is not known"
        )
    if score.members is not None:
        line.append("  members " + " ".join(f"{reward:+.4f}" for reward in score.members))
    line.append(f"  {score.tokens} tokens", style="dim")
    if score.truncated_tokens:
        line.append(f", {score.truncated_tokens} more were dropped", style="yellow")
    return line


def _heads(score: Score) -> Table:
    table = Table("head", "value", "calibrated", "share of reward", box=None, padding=(0, 2, 0, 0))
    spread = any(head.std is not None for head in score.heads.values())
    if spread:
        table.add_column("std")
    for name, head in score.heads.items():
        shares = [segment.reward for segment in score.segments or () if segment.head == name]
        row = [name, f"{head.value:+.4f}", f"{head.calibrated:+.4f}"]
        row.append(f"{sum(shares):+.4f}" if shares else "")
        if head.std is not None:
            row.append(f"{head.std:.4f}")
        table.add_row(*row)
    penalties = [one for one in score.segments or () if one.head == PENALTY_SEGMENT]
    for penalty in penalties:
        table.add_row("penalty", f"{penalty.value:.4f}", "", f"{penalty.reward:+.4f}")
    return table


def _coloured(text: str, score: Score) -> Iterator[Text]:
    """The response once for each head that tells its parts apart, else once as it is."""
    by_head: dict[str, list[Segment]] = {}
    for segment in score.segments or ():
        by_head.setdefault(segment.head, []).append(segment)
    told_apart = {head: parts for head, parts in by_head.items() if len(parts) > 1}
    if not told_apart:
        yield Text(text)
    for head, parts in told_apart.items():
        spread = f", by {parts[0].redistribution}" if parts[0].redistribution else ""
        line = Text(f"{head}{spread}: ", style="dim")
        for part in sorted(parts, key=lambda part: part.start):
            line.append(text[part.start : part.end], style=_colour(part.reward))
            line.append(f"({part.reward:+.3f}) ", style="dim")
        yield line


def _colour(reward: float) -> str:
    return "red" if reward < BAD else "green" if reward > GOOD else "default"
