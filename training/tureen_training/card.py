"""The model card of a soup: README.md beside its tureen.json, written from the manifest and nothing else."""

from __future__ import annotations

from pathlib import Path

from tureen.model.files import write_atomically
from tureen.model.manifest import HeadSpec, Manifest


def _of_units(name: str, what: str) -> dict[str, tuple[str, str]]:
    trivial = "call all errors, or none"
    return {
        f"{name}_auroc": (f"{what}: clean above error", "chance"),
        f"{name}_f1": ("same, F1 of the error class, called below the head's threshold", trivial),
        f"{name}_f1_clean": ("same, F1 of the clean class", trivial),
        f"{name}_f1_macro": ("same, mean of both F1", trivial),
    }


COMPARED = "best of: first, longer, shorter answer wins, chance"
MEANINGS = {
    "preference_accuracy": (
        "head `preference`, human comparisons of sampled answers, ties left out",
        COMPARED,
    ),
    "reward_accuracy": ("the default reward, same comparisons", "same"),
    "preference_ece": (
        "expected calibration error of the win probability, same comparisons; lower is better",
        "always ½, which is calibrated and says nothing",
    ),
    "preference_brier": (
        "Brier score of the win probability, same comparisons; lower is better",
        "always ½",
    ),
    "completeness_accuracy": (
        "head `completeness`, pairs of sampled answers of which one states more of the passage sentences that "
        "the human correction states",
        COMPARED,
    ),
    "completion_accuracy": (
        "head `completeness`, human correction over sampled answer where something was missing",
        "best of: longer, shorter answer wins, chance",
    ),
    **_of_units("relevance", "head `relevance`, sub-sentences"),
    **_of_units(
        "factuality",
        "head `factuality`, sentences, those with a relevance error alone left out",
    ),
    "factuality_auroc_sub_sentence": (
        "head `factuality`, sub-sentences with the value of their sentence, those with a relevance error "
        "alone left out: clean above error",
        "chance",
    ),
    "factuality_f1_sub_sentence": ("same, F1 of the error class", "call all errors, or none"),
}
"""figure -> (what it is, what its baseline is)."""


def write_card(directory: Path, manifest: Manifest) -> None:
    write_atomically(directory / "README.md", card(manifest))


def card(manifest: Manifest) -> str:
    base = manifest.base.repo if manifest.base is not None else "none"
    return f"""---
license: apache-2.0
base_model: {base}
language: en
library_name: tureen
tags: [reward-model, model-soup, rlhf]
---

# {manifest.model_id}

A soup of {len(manifest.ingredients)} reward models ({manifest.soup}) for answers to questions with evidence: given a
question, passages and an answer it says how good the answer is, which sentence is to blame, and how sure it is.

| head | speaks of | weight | mean | std | error below | over windows |
|---|---|---:|---:|---:|---:|---|
{_heads(manifest)}

reward = Σ weight · (value − mean) / std. `error below`: a unit of a lower value is called an error in the figures;
without one, below the mean. Higher is better in every head. {_how_context_is_read(manifest)}
{_what_is_counted(manifest)}
The weights: preference is what people said outright, so it counts most; factuality and completeness are measured
more reliably than preference and guard the two ways an answer goes wrong; relevance counts least, because a
sentence too many does less harm than a wrong or a missing one. Give other `weights` in a request to re-weight.

## Figures

On the test part (15 % of the annotated questions, by hash of the question id): never trained on, not used
to choose or to calibrate. Intervals: 95 %, bootstrap over questions.

| figure | value | interval | n | questions | baseline | what it is |
|---|---:|---|---:|---:|---:|---|
{_figures(manifest)}

## Made from

| ingredient | coefficient | lineage |
|---|---:|---|
{_ingredients(manifest)}

All descend from `{base}` and share one start; the lower layers are those of the base. Stored are the fp16
differences to the base of the layers that were trained. The recipes say what was fitted anew after averaging.
Calibration and temperature
({manifest.temperature:.2f}): {manifest.calibration_set}; where heads were fitted anew, the temperature on the
comparisons of the training part too.

Data:

{_licences(manifest)}

Their text is not in this directory. To make the soup again, from a directory of QA-Feedback:

```bash
{manifest.lineage["commands"]}
```

## Use and limits

For ranking or rewarding English answers of a few sentences to factual questions, with the passages they should
rest on. The data are small (some hundred questions, answers of one model, one annotator each), so the figures
above are what to expect, and less on other kinds of text. Where an interval holds the baseline, nothing better
than the baseline has been shown. What is copied from the passages counts as borne out and a longer answer as more
complete: an optimised policy will copy at length, so watch the length and the relevance head. Answers of a few
words are far from those it was trained on. It hardly reads the question (with another one in its place the reward
falls by 0.10 standard deviations, `--suite robustness`), and prefers "she" to "he" by 0.5 (`--suite reward_bias`).
Without context nothing is compared, and `factuality` and `completeness` say little. The members share a trunk, so
their spread understates the doubt; an optimised policy will find what they all miss. Not for judging people, nor as
the only judge of truth. Other languages are scored,
but were neither trained on nor measured.
"""


def _how_context_is_read(manifest: Manifest) -> str:
    if manifest.text.compares:
        return (
            "The context is compared with the answer, not read: of every token the heads know how long a run of "
            "tokens it stands in that also stands in the context, and whether it stands in the sentence of the "
            "context that is most like its own."
        )
    return "Where a context takes several windows, each head combines them as the table says."


def _what_is_counted(manifest: Manifest) -> str:
    if not manifest.text.describes_units:
        return ""
    return """
`relevance` counts rather than reads: of a sub-sentence its length, its place in the answer and in its sentence, how
much of it and of its sentence was asked, and how much of it was said before. In ten folds of the training questions
these numbers have an AUROC of 0.704 [0.676, 0.729], trained layers alone 0.661 in three. The edition before, whose head
read, had on the test part an AUROC of 0.650 [0.562, 0.737], an F1 macro of 0.498 [0.426, 0.573], a reward accuracy of
0.534 [0.455, 0.611] and an ECE of 0.113 [0.071, 0.162]; the other heads are the same. So on the test part it orders no
better than it did; where it draws the line between clean and error is better. What strays in the words of the question
it does not find, a first sentence counts as relevant whatever it says, and one that repeats the question's words counts
for more than one that goes on, even when it was said before.
"""


def _heads(manifest: Manifest) -> str:
    return "\n".join(
        f"| {head.name} | {head.granularity.replace('_', '-')} | {head.weight:g} | "
        f"{head.calibration.mean:.3f} | {head.calibration.std:.3f} | {_threshold(head)} | {head.combine} |"
        for head in manifest.heads
    )


def _threshold(head: HeadSpec) -> str:
    return "" if head.threshold is None else f"{head.threshold:.3f}"


def _figures(manifest: Manifest) -> str:
    lines = []
    for name, figure in manifest.metrics["figures"].items():
        meaning, baseline = MEANINGS[name]
        lines.append(
            f"| {name} | {figure['value']:.3f} | {figure['low']:.3f} – {figure['high']:.3f} | {figure['n']} | "
            f"{figure['prompts']} | {figure['baseline']:.3f} ({baseline}) | {meaning} |"
        )
    return "\n".join(lines)


def _ingredients(manifest: Manifest) -> str:
    return "\n".join(
        f"| {item.name} | {item.coefficient:g} | "
        + "; ".join(f"{key}: {value}" for key, value in item.lineage.items())
        + " |"
        for item in manifest.ingredients
    )


def _licences(manifest: Manifest) -> str:
    return "\n".join(f"- {licence}" for licence in manifest.data_licences)
