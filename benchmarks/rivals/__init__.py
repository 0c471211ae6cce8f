"""What a user would run instead of jaxalloc, each on the same job: a panel, bootstrap universes, four profiles.

Every module has a class with one interface: ``name``; ``__init__(panel, n_workers)``, which starts and warms all that
need not be timed; ``run(n, seed)``, weights (n, 4, N) of n freshly drawn universes, the draw included;
``allocate(counts)``, weights, labels and lead assets of given ones; ``close()``. Profiles stand in the order of
`common.PROFILES`; settings are the engine's defaults.

    expert      the expert's loop: compiled tools on each core, as exact as the engine in float64
    original    pandas, SciPy's linkage and SLSQP, one universe at a time
    libraries   skfolio's and Riskfolio-Lib's nested clusters
    naive       JAX as one would first write it

They need the extra ``bench``. ``python -m rivals`` in this folder's parent measures them.
"""
