"""Claims of the literature, tried on toy tasks: `tureen-train demo NAME`."""

DEMOS = {
    "almanac": "write the Almanac, a synthetic world of grounded questions with an exact gold judge",
    "loop": "SFT, reward models, soup, a server process, PPO over gRPC, evaluation, on the Almanac",
    "warm": "soups forget corrupted labels that ensembles memorise (WARM, arXiv:2401.12187)",
}
