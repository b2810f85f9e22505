"""Weights: what catalogues know, where the files lie, what they hold, and which file fills which role."""
