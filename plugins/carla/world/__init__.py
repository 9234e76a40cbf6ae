"""A CARLA server and what is in its world: versions, vehicles, tags, poses.

Our cameras live in plugins/carla/rig.
"""
