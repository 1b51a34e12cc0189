"""The methods; importing this package registers them."""

from solvers.methods import closed_form, conic, tiles

__all__ = ["closed_form", "conic", "tiles"]
