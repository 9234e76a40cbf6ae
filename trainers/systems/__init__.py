"""What is trained: networks, losses, phases.

How anything is trained lives in trainers/loop.
"""
