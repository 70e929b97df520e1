"""Makes reward-model soups and optimises language models against them. Torch is needed to use it."""
