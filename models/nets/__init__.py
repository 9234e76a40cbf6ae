"""Networks, one a file.

Operators that several share (edges, hints, layers, style) live one folder up.
"""
