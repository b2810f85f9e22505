"""How near the certifier comes to what this machine can do, and to what a plain loop does: `rrcm-bench bench`."""
