"""`python -m tinygrad_cv.cli`."""

import sys

from . import main

sys.exit(main())
