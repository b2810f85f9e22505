"""Diffusion models as denoisers: schedules, networks, samplers, and converters of published checkpoints."""
