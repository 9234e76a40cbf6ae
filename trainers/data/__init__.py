"""Where photographs and renders come from: data sets on disk.

Crops and batches live in trainers/batches.
"""
