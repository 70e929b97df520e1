"""Claims of the literature, tried on toy tasks: `tureen-train demo NAME`."""

DEMOS = {
    "alarms": "whether the watch sees a reward being exploited, in time, and stays silent where not",
    "almanac": "write the Almanac, a synthetic world of grounded questions with an exact gold judge",
    "credit": "the same claim as dense on a task of eight segments, in a minute",
    "dense": "episodes that a reward on its segments spares, against the same at the end of the response",
    "loop": "SFT, reward models, soup, a server process, PPO over gRPC, evaluation, on the Almanac",
    "overoptimisation": "gold against proxy for single reward models, soups and ensembles (Gao, arXiv:2210.10760)",
    "replay": "what PPO forgets, and what pretraining text in every update gives back",
    "rrhf": "candidates of three policies make a better one, and what no KL penalty does online",
    "warm": "soups forget corrupted labels that ensembles memorise (WARM, arXiv:2401.12187)",
}
