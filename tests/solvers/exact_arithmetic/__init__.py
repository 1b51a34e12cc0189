"""The sets, bounds and objectives of ``solvers`` in rational arithmetic, and a long fuzz of the certificate.

Every number of a problem is a float, and every float is a rational number. On tiny images the promises of a
certificate can therefore be checked without any rounding: the point is feasible, the objective is rounded the safe
way, and the bound holds for every feasible point at hand.

- ``rational_arrays``: arrays of rationals with one denominator.
- ``windows``: window weights and moments.
- ``sets``: membership of every set.
- ``objectives``: both objectives, and optima that have a closed form.
- ``random_problems``, ``random_points``, ``random_duals``: everything from one seed.
- ``feasible_points``: points that lie in the sets exactly.
- ``checks``: what must hold of one problem.
- ``fuzz``: many seeds from the command line (``make certify-fuzz``).

Nothing here calls the code under test for the mathematics. Two numbers are read from it: the tolerance on means that
are kept, and the one-dimensional weights of a Gaussian window.
"""
