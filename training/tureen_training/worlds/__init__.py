"""Synthetic worlds, in which what a good response is can be computed. Training stages never import them."""
