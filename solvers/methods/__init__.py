"""The methods; importing this package registers them."""

from solvers.methods import (
    admm,
    closed_form,
    conic,
    dual,
    ellipsoid,
    energy_step,
    frank_wolfe,
    mean_tiles,
    mean_windows,
    pdhg,
    product_tiles,
    tiles,
)

__all__ = [
    "admm",
    "closed_form",
    "conic",
    "dual",
    "ellipsoid",
    "energy_step",
    "frank_wolfe",
    "mean_tiles",
    "mean_windows",
    "pdhg",
    "product_tiles",
    "tiles",
]
