"""The methods; importing this package registers them."""

from solvers.methods import admm, closed_form, conic, dual, ellipsoid, frank_wolfe, mean_tiles, pdhg, tiles

__all__ = ["admm", "closed_form", "conic", "dual", "ellipsoid", "frank_wolfe", "mean_tiles", "pdhg", "tiles"]
