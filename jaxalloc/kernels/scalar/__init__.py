"""Kernels of one universe after the other, compiled by numba: for a CPU, where the matrices of lanes fit no cache."""
