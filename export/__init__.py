"""Recipes for export; the command is `python -m export`."""
