"""How long a certificate takes: what was timed, on what, how sure it is. A projection is never called a measurement."""
