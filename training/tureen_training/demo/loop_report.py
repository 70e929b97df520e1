"""What demo `loop` makes of its figures: table, plots, a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from tureen_training import pages, plots

NAMES: Final = {
    "wrong_facts": "wrong facts",
    "missing_facts": "missing facts",
    "unasked_facts": "unasked facts",
}
_PLOTS: Final = ("kl.png", "errors.png", "heads.png", "disagreement.png")


def rows_of(report: Mapping[str, Any]) -> list[list[str]]:
    """Figure, SFT, PPO, change with its interval, PPO / SFT with its interval."""
    perfect = "responses without an error"
    rows = [
        ["gold score", *_pair(report["gold"], ".3f"), _interval(report["gold"]["change"]), ""],
        [perfect, *_pair(report["perfect"], ".1%"), _interval(report["perfect"]["change"]), ""],
    ]
    for error, name in NAMES.items():
        found = report["errors"][error]
        rows.append(
            [
                f"responses with {name}",
                *_pair(found, ".1%"),
                _interval(found["change"]),
                _interval(found["ratio"], sign="") if found["ratio"] else "none before",
            ]
        )
    rewards = {name: own["mean"] for name, own in report["reward"].items()}
    rows.append(["reward of the service", *_pair(rewards, ".3f"), "", ""])
    tax = report["tax"]
    rows.append(["perplexity of held-out text", *_pair(tax["perplexity"], ".3f"), "", ""])
    cloze = {name: found["value"] for name, found in tax["cloze"].items()}
    rows.append(["cloze questions answered", *_pair(cloze, ".1%"), "", ""])
    return rows


def notes(report: Mapping[str, Any]) -> str:
    heads = ", ".join(
        f"{name} none" if value is None else f"{name} {value:.3f}"
        for name, value in report["heads"].items()
    )
    return (
        f"AUROC of the service's heads against gold on responses of SFT: {heads}; "
        f"KL {report['kl']:.2f} {report['kl_unit']}; {report['prompts']} test prompts; "
        f"{report['wait_share']:.1%} of PPO's time was spent waiting for rewards"
    )


def verdicts(report: Mapping[str, Any]) -> list[str]:
    """What was to be shown, and whether it was."""
    said = [
        f"gold score above SFT, interval clear of zero: {_yes(report['gold']['change']['low'] > 0)}"
    ]
    for error, name in NAMES.items():
        ratio = report["errors"][error]["ratio"]
        halved = ratio is not None and ratio["value"] <= 0.5
        clear = ratio is not None and ratio["high"] <= 0.5
        said.append(f"{name} at least halved: {_yes(halved)}; the whole interval: {_yes(clear)}")
    return said


def show(report: Mapping[str, Any], out: Path) -> None:
    table = Table("", "SFT", "PPO", "change, 95 %", "PPO / SFT, 95 %")
    for row in rows_of(report):
        table.add_row(*row)
    console = Console()
    console.print(table)
    for verdict in verdicts(report):
        console.print(verdict)
    console.print(
        f"{notes(report)}; {report['seconds']['all']:.0f} s; {out / 'report.html'}", soft_wrap=True
    )


def write_html(report: Mapping[str, Any], records: Sequence[Mapping[str, Any]], out: Path) -> None:
    """The plots, and report.html beside them. records: of PPO's log."""
    steps = [record for record in records if record["event"] == "step"]
    draw(report, steps, out)
    header = ["", "SFT", "PPO", "change, 95 %", "PPO / SFT, 95 %"]
    parts = [
        "<h1>From SFT to PPO on the Almanac</h1>",
        f"<p>{report['prompts']} prompts of pages that nothing was trained on, one response each at "
        "temperature 1; intervals by bootstrap over prompts. The gold judge read these responses and took "
        f"no part in training. {escape(notes(report))}.</p>",
        pages.table(header, rows_of(report)),
        pages.bullets(verdicts(report)),
        *(f'<p><img src="{name}" alt="{name}"></p>' for name in _PLOTS if (out / name).is_file()),
        "<h2>Samples</h2><p>The colour of a sentence is the reward of its segments: red below zero, green "
        "above.</p>",
        *(_sample(one) for one in report["samples"]),
        "<h2>Seconds</h2>",
        pages.table(["", "s"], [[name, f"{s:.1f}"] for name, s in report["seconds"].items()]),
    ]
    (out / "report.html").write_text(pages.page("Tureen: the whole loop", parts), encoding="utf-8")


def draw(report: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], out: Path) -> None:
    made, (axes, judged) = plots.panels(2)
    kl = [step["kl/k1_nats_per_response"] for step in steps]
    axes.scatter(kl, [step["reward/mean"] for step in steps], s=6)
    axes.set(xlabel="KL, nats per response", ylabel="reward of the service", title="each step")
    curve = sorted(report["curve"], key=lambda point: point["kl"])
    where = [point["kl"] for point in curve]
    judged.plot(where, [point["score"] for point in curve], "o-", label="gold score")
    for error, name in NAMES.items():
        judged.plot(where, [point[f"{error}_rate"] for point in curve], "o--", label=name)
    judged.set(xlabel="KL, nats per response", title="gold judge, validation prompts")
    plots.save(made, out / "kl.png")

    made, axes = plots.figure("", "share of responses", "errors before and after")
    for offset, policy in ((-0.2, "sft"), (0.2, "ppo")):
        rates = [report["errors"][error][policy] for error in NAMES]
        axes.bar(np.arange(len(NAMES)) + offset, rates, width=0.38, label=policy.upper())
    axes.set_xticks(range(len(NAMES)), list(NAMES.values()))
    plots.save(made, out / "errors.png")

    made, axes = plots.figure("step", "calibrated value", "heads")
    numbers = [step["step"] for step in steps]
    for name in sorted(name for name in steps[0] if name.startswith("heads/")):
        axes.plot(numbers, [step[name] for step in steps], label=name.removeprefix("heads/"))
    plots.save(made, out / "heads.png")

    known = [step for step in steps if "reward/disagreement" in step]
    if known:
        made, axes = plots.figure("step", "variance of the members' rewards", "disagreement")
        axes.plot([s["step"] for s in known], [s["reward/disagreement"] for s in known])
        plots.save(made, out / "disagreement.png")


def _sample(one: Mapping[str, Any]) -> str:
    lines = [f"<h3>{escape(one['prompt'])}</h3>"]
    lines += [f"<p class=context>{escape(passage)}</p>" for passage in one["context"]]
    for policy in ("sft", "ppo"):
        said = one[policy]
        reward = "no reward" if said["reward"] is None else f"reward {said['reward']:.2f}"
        lines.append(
            f"<p class=text><b>{policy.upper()}</b> (gold {said['gold']:.2f}, {reward}): "
            f"{pages.coloured(said['text'], said['segments'])}</p>"
        )
    return "\n".join(lines)


def _pair(means: Mapping[str, Any], form: str) -> tuple[str, str]:
    return format(means["sft"], form), format(means["ppo"], form)


def _interval(found: Mapping[str, float], sign: str = "+") -> str:
    value, low, high = (format(found[name], f"{sign}.3f") for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"
