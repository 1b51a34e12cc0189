"""The methods; importing this package registers them."""

# The order of the imports is the order of registration, and so of `solvers.methods()`: alphabetical.
# isort: off
from solvers.methods.splitting import admm
from solvers.methods import closed_form
from solvers.methods import cvxpy_solvers
from solvers.methods.dual import method as dual_method
from solvers.methods.ellipsoid import method as ellipsoid_method
from solvers.methods.mean_ssim import ellipsoid_step
from solvers.methods import frank_wolfe
from solvers.methods.mean_ssim import tiles as mean_tiles
from solvers.methods.mean_ssim import stationary
from solvers.methods.splitting import pdhg
from solvers.methods import product_tiles
from solvers.methods import tiles
# isort: on

__all__ = [
    "admm",
    "closed_form",
    "cvxpy_solvers",
    "dual_method",
    "ellipsoid_method",
    "ellipsoid_step",
    "frank_wolfe",
    "mean_tiles",
    "pdhg",
    "product_tiles",
    "stationary",
    "tiles",
]
