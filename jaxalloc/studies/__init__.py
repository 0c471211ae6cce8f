"""Studies: portfolios of thousands of universes drawn from one panel, their totals, tables and folder.

`plan` checks the arguments; `compute` has the plan's chunks computed by `local` devices or `dask` workers; `measures`
and `totals` reduce them; `study` has the result with its `tables`, and `folder` its files.
"""
