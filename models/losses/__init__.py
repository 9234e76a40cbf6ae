"""Losses: small callables that return maps or one value a sample; whoever calls them reduces.

What weighs and sums them lives in trainers/systems.
"""
