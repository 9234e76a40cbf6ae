"""Folders on disk: read, written, translated, shown.

The wire lives in sim_bridge/wire.
"""
