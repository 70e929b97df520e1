"""Makes reward-model soups and optimises language models against them."""
