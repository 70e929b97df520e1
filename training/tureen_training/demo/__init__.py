"""Claims of the literature, tried on toy tasks: `tureen-train demo NAME`."""

DEMOS = {
    "warm": "soups forget corrupted labels that ensembles memorise (WARM, arXiv:2401.12187)",
}
