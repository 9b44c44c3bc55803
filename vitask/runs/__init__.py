"""Runs: folders that explain themselves, and the stages, evaluations and grids that fill them."""
