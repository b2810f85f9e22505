"""Faster inference on a device, with answers equal up to rounding."""
