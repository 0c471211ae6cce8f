"""Walk-forward backtests: portfolios decided on past windows, held on the rows after them.

`run` allocates every window of every path and setting as one study; `simulation` holds the portfolios through the rows
after their windows; `performance` measures what they returned; `results` is what it came to, and `files` its folder.
"""
