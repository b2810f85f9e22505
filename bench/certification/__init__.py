"""From votes to certificates: bounds, sequential designs and stopping rules; pure functions, no torch, no files."""
