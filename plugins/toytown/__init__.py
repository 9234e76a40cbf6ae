"""Toytown: an embedded street simulator. No server, no assets: a seeded town, ray casting, exact ground truth."""
