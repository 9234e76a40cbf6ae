"""``sim-bridge demo``: the embedded simulator, the bridge and the live page, one process group, one Ctrl-C."""
