"""Risk parity with upper bounds: equal risk contributions in the sense of Richard & Roncalli (2019, arXiv 1902.05710).

w(lambda) minimises w'Sw / 2 - lambda sum log w over 0 < w <= u, and lambda is the smallest with sum w(lambda) = 1. In
the scale z = sigma w / sqrt(lambda) the problem reads: minimise z'Cz / 2 - sum log z over 0 < z <= b s, with C the
correlation matrix, b = sigma u, a = 1 / sigma, and s = 1 / sqrt(lambda) the largest number with a . z = s. Without
bounds z does not depend on s. So each problem is solved twice: first without bounds, which is the answer where it
respects them; then from there with the bounds on.

- `solve`: the entry points, and the steps of the solver.
- `problem`: what is solved, an iterate, and how far it is from the solution.
- `log_newton`: Newton's method in log z by conjugate gradients, without bounds.
- `descent`: cyclical coordinate descent, with and without bounds.
- `bounded`: Newton's method by elimination, with bounds, for what the others do not solve.
"""
