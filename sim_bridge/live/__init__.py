"""The running bridge: stages, queues, pairing, counters.

Formats and sockets live in sim_bridge/wire.
"""
