"""One process among others: signals, logs, children kept running.

It knows no simulator.
"""
