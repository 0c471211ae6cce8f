"""What a user would run instead of jaxalloc, each on the same job: a panel, bootstrap universes, four profiles.

`benchmarks/bench.py` races them; none of it is in the installed package. Every side has one interface, `common.Side`;
profiles stand in the order of `common.PROFILES`; settings are the engine's defaults.

    registry    who they are, and the libraries that each needs
    common      the interface, the draw of universes, a pool of one process a core
    engine      jaxalloc itself
    expert      the expert's loop: compiled tools on each core, as exact as the engine in float64
    kernels     its part inside the clusters, and ...
    solvers     ... its part across clusters, compiled
    original    pandas, SciPy's linkage and SLSQP, one universe at a time
    libraries   skfolio's and Riskfolio-Lib's nested clusters
    naive       JAX as one would first write it
    judge       how exact each of them is, by the tests' oracle
    race        pairs of runs, timed
    tables      the outcome as Markdown, and in a terminal
"""
