"""The methods; importing this package registers them."""

from solvers.methods import admm, closed_form, conic, pdhg, tiles

__all__ = ["admm", "closed_form", "conic", "pdhg", "tiles"]
