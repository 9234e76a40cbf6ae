"""Recipes: YAML files and the types that read them.

What a recipe builds lives in trainers/systems.
"""
