"""From photographs to tensors; the only place where training draws at random.

Files are read in trainers/data.
"""
