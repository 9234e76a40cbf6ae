"""Losses: small callables that return maps or one value a sample; trainers/systems reduces, weighs and sums them."""
