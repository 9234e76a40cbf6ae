"""Pictures, labels and the network's input.

Files of recordings live in sim_bridge/recordings.
"""
