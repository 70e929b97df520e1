"""The Almanac: short passages about people, towns, bridges and festivals that never were, and questions on them.

A question asks for one to three facts. A perfect response states exactly those: a wrong fact is an error of factuality,
a fact nobody asked for one of relevance, a fact left out one of completeness. `gold` counts them, for evaluation only.
"""
