"""Passes on CUDA in half precision with what stands between products and convolutions fused, by kernels of Triton.

Imported only where triton is. A fused network holds the numbers of the one that it is made from, and answers alike to
the rounding of half precision.
"""
