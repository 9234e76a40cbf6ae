"""What a camera sees: rays, depth, truth, light presets.

Colours come from plugins/toytown/looks.
"""
