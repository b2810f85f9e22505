"""Measures of what networks make of images before their classes: linear probes and distances between features."""
