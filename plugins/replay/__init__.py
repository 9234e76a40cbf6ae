"""Replay: a recorded folder on the wire, as if a simulator were running; with faults on request, for tests."""
