"""A language model as judge, over an OpenAI-compatible endpoint: rubric, client, strict reading of verdicts."""
