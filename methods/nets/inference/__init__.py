"""What makes a network fast on its device without moving what it says beyond rounding."""
