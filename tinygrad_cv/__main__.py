"""`python -m tinygrad_cv` is `tinygrad-cv`."""

import sys

from .cli import main

sys.exit(main())
