"""How anything is trained: checkpoints, processes, reports.

It knows no network by name; trainers/systems does.
"""
