"""`python -m mobilesam`."""

import sys

from mobilesam.cli import main

sys.exit(main())
