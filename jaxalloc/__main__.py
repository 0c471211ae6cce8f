"""`python -m jaxalloc` is the command `jaxalloc`."""

import sys

from jaxalloc.cli import main

if __name__ == "__main__":
    sys.exit(main())
