"""Our cameras on a vehicle: sensors, ticks, the bridge as a script sees it.

The server lives in plugins/carla/world.
"""
