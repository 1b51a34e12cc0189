"""The splitting methods ``admm`` and ``pdhg``, which take every convex set."""
