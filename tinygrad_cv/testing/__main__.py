"""`python -m tinygrad_cv.testing [PATTERN ...]` is `tinygrad-cv check [PATTERN ...]`."""

import sys

from ..cli import main

if __name__ == "__main__":
    sys.exit(main(["check", *sys.argv[1:]]))
