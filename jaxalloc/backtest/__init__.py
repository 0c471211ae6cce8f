"""Walk-forward backtests: portfolios are decided on past windows and held on the rows after them.

`plan` checks the arguments; `run` allocates the windows of every path and setting as studies; `holding` holds the
portfolios by `schedule`, as `simulation` says; `performance` and `comparison` measure and compare the returns; `walk`
has the result, and `folder` its files. `validate` holds portfolios through the groups of rows that they were not
decided on, in every combination; `validation` has its result.
"""
