"""Everything that certifies: methods as values, their networks, and how they are trained."""

from pathlib import Path

CATALOGUE = Path(__file__).with_name("weights.toml")  # the known weights, found through the group rrcm_bench.weights
