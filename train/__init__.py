"""Recipes for training; the command is `python -m train`."""
