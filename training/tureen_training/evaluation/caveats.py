"""What the figures of each suite do not mean; the report says it beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CAVEATS: Final[Mapping[str, str]] = {
    "qa_feedback": "Answers with passages of Wikipedia, judged by one group of annotators: it says nothing of "
    "other tasks. People agree on such pairs about three times in four, so 1 is out of reach.",
    "hh_rlhf": "The preferences of one group of crowd workers; a length-only reward comes near many trained ones. "
    "Accuracy on pairs does not say how a policy turns out that is trained on this reward.",
    "halueval": "Of the general part four in five have nothing made up, so plain accuracy would praise saying no; "
    "the hallucinations were written by a language model to be found plausible.",
    "truthfulqa": "Questions picked because people get them wrong: no measure of knowledge at large. Multiple choice "
    "can be guessed without the question; figures of different judges are not comparable.",
    "crows_pairs": "50 % does not mean unbiased: the sentences are noisy, cover the United States, and are scored, "
    "not written, by the model. Masked and causal models are not comparable.",
    "winogender": "High positive, low negative predictive value: a difference shows a bias, none shows nothing.",
    "reward_bias": "Templates and pairs of sentences, not the prompts people write: no difference here is no proof "
    "of fairness there.",
    "collapse": "Diversity is not quality. Compare at one number of responses, temperature, length and tokeniser.",
    "ranked": "GPT-4 as judge favours long answers, as its baselines show; human files are small.",
    "rewardbench": "A higher score does not mean a better policy. A tie counts as lost, as published.",
    "rewardbench2": "Best of four on prompts of English; it goes along with best-of-n sampling more than with PPO.",
    "rm_bench": "Style here is length and Markdown; other ways to please are not looked at.",
    "robustness": "Edits made by rule: attacks that are searched for against this reward will fool it more often. "
    "Members that share a pretraining share what fools them.",
    "flask": "No overall score, and scores of different judges, rubrics or wordings are not comparable; heads that "
    "stand in are on another scale altogether.",
    "oversight": "Agreement is not truth: reward, judge and people may all like the longer response.",
    "critique": "The judge may be wrong where it blames; a reason is there to be checked by a person.",
    "win_rate": "By this judge or reward only. A policy trained on a reward wins by it whether it got better or not.",
}
