"""The town itself: plan, houses, traffic, meshes.

What a camera sees of it lives in plugins/toytown/view.
"""
