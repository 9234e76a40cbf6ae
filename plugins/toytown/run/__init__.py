"""Toytown as a simulator, a source and a command.

The town itself lives in plugins/toytown/town.
"""
