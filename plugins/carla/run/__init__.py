"""CARLA as a source, a command and a recording.

Sensors live in plugins/carla/rig.
"""
