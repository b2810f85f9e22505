"""Datasets: pixels float32 in [0, 1], subsets and fingerprints; no smoothing noise, no network's scale."""
