"""Everything that certifies: methods as values, their networks, and how they are trained.

One module a method; noise_trained serves those that are one pass of a noise-trained network, purification holds what
DDS, DensePure and DiffSmooth share, representation rRCM's encoder as features.

nets        architectures, normalisers, loading of weights; inference/: what makes them fast on a device
diffusion   UNets, schedules, samplers, converters of the authors' checkpoints
training    each method's loss beside its recipe; presets/: the recipes' numbers; views, loaders, processes, dry runs
pretrained  small weights that ship with the package, by dataset
"""

from pathlib import Path

CATALOGUE = Path(__file__).with_name("weights.toml")  # the known weights, found through the group rrcm_bench.weights
