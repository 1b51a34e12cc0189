"""Perturbations rounded to 8-bit files that keep to their set."""
