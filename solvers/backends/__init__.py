"""Compiled code: numba on the CPU, CUDA graphs on a GPU, and which tensors compiled code may read."""
