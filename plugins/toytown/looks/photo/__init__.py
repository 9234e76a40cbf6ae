"""The photo look: the same geometry with textures, soft light, reflections and a camera."""
