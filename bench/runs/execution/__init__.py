"""Who computes which image. Nothing here can change a result: votes depend on the spec and the image alone."""
