"""Commands about the bridge: benchmark and doctor.

The bridge itself lives in sim_bridge/live.
"""
