"""What a result is worth: metrics, judges, evaluation, export.

Nothing here trains.
"""
