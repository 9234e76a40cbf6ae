"""Losses: small callables on tensors, one family a file.

What weighs and sums them lives in trainers/systems.
"""
