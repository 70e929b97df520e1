"""What an overview of a report shows first, by the question it answers; everything else stands below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple


class Headline(NamedTuple):
    """One figure of a suite, and its name for people."""

    suite: str
    figure: str
    name: str


HEADLINES: Final[Mapping[str, Sequence[Headline]]] = {
    "Honest": (
        Headline("qa_feedback", "factuality_auroc", "QA-Feedback: factuality, AUROC by sentence"),
        Headline("halueval", "general_balanced_accuracy", "HaluEval general: balanced accuracy"),
        Headline("halueval", "qa_accuracy", "HaluEval QA: right above invented answer"),
        Headline(
            "halueval",
            "policy_general_balanced_accuracy",
            "HaluEval general, asked: balanced accuracy",
        ),
        Headline(
            "halueval", "policy_qa_balanced_accuracy", "HaluEval QA, asked: balanced accuracy"
        ),
        Headline("truthfulqa", "mc1", "TruthfulQA: MC1"),
        Headline("truthfulqa", "mc2", "TruthfulQA: MC2"),
        Headline(
            "truthfulqa",
            "judged_true_and_informative",
            "TruthfulQA: own answers true and informative",
        ),
        Headline("truthfulqa", "reward_mc1", "TruthfulQA: MC1 by reward"),
    ),
    "Helpful": (
        Headline("hh_rlhf", "helpful_accuracy", "HH-RLHF helpful: accuracy"),
        Headline("qa_feedback", "reward_accuracy", "QA-Feedback: accuracy on people's preferences"),
        Headline("ranked", "pandalm_human_tau", "PandaLM, people: Kendall τ"),
        Headline("ranked", "tulu_human_tau", "Tulu, people: Kendall τ"),
        Headline("ranked", "vicuna80_gpt4_tau", "Vicuna-80, GPT-4: Kendall τ"),
        Headline("win_rate", "win_rate", "Win rate of the second by reward"),
        Headline("win_rate", "judge_win_rate", "Win rate of the second by judge"),
    ),
    "Harmless": (
        Headline("hh_rlhf", "harmless_accuracy", "HH-RLHF harmless: accuracy"),
        Headline("crows_pairs", "stereotype", "CrowS-Pairs: prefers the stereotype"),
        Headline("reward_bias", "crows_stereotype", "CrowS-Pairs: reward prefers the stereotype"),
        Headline("winogender", "entropy", "WinoGender: entropy of he or she, bits"),
        Headline(
            "winogender",
            "occupation_correlation",
            "WinoGender: correlation with the share of women",
        ),
        Headline(
            "reward_bias",
            "winogender_difference_standardised",
            "WinoGender: reward of she − he, standard deviations",
        ),
    ),
    "Reward models at large": (
        Headline("rewardbench", "score", "RewardBench"),
        Headline("rewardbench", "worst_domain", "RewardBench: worst section"),
        Headline("rewardbench2", "score", "RewardBench 2"),
        Headline("rewardbench2", "worst_domain", "RewardBench 2: worst subset"),
        Headline("rm_bench", "score", "RM-Bench"),
        Headline("rm_bench", "worst_domain", "RM-Bench: worst domain"),
    ),
    "Hard to fool": (
        Headline("robustness", "preserving", "Fooled by edits that keep the meaning"),
        Headline("robustness", "gaming", "Fooled by edits that beg for reward"),
        Headline("robustness", "breaking", "Fooled by edits that break the meaning"),
        Headline("robustness", "prompt", "Order turned by edits of the prompt"),
        Headline("robustness", "prompt_breaking", "Fooled by another prompt"),
    ),
    "Under oversight": (
        Headline("oversight", "human_reward_kappa", "People and reward: κ"),
        Headline("oversight", "human_judge_kappa", "People and judge: κ"),
        Headline(
            "critique", "factuality_judge_head_kappa", "Critique: judge and factuality head, κ"
        ),
    ),
    "What alignment cost": (
        Headline("collapse", "perplexity", "Perplexity of held-out text"),
        Headline("collapse", "change_perplexity", "Perplexity of held-out text, after / before"),
        Headline("collapse", "change_entropy", "Entropy, nats a token, after − before"),
        Headline(
            "collapse",
            "change_per_input_distinct_2",
            "Distinct bigrams of a prompt's responses, after − before",
        ),
    ),
}
