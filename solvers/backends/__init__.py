"""How compiled code is run: numba on the CPU, CUDA graphs on a GPU, and the tensors that compiled code may read.

The kernels themselves lie beside the mathematics that they compute, in files that end in ``_numba`` and ``_triton``.
"""
