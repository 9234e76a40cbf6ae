"""Parts of the town in their own coordinates: x forward, y left, z up, metres, standing on z = 0."""
