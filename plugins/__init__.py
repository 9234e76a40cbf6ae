"""Simulators: each folder brings one source of frames, and its subcommand, into the bridge by entry points."""
