"""Networks, losses, the edge operator and bundles: torch alone; nothing here knows of streams or data sets."""
