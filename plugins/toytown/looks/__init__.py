"""How a view is coloured: the CG look, and its photo twin in photo/.

Geometry lives in plugins/toytown/view.
"""
