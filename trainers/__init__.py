"""Training of the networks: data sets, recipes, loops, and what is measured. ``trainers/run.py`` is the entry point."""
