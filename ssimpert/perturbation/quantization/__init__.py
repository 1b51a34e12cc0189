"""Perturbations rounded to 8-bit files that keep to their set."""

from ssimpert.perturbation.quantization.quantize import quantize

__all__ = ["quantize"]
