"""The command `python -m selftune.schedules refine norms.csv`, see selftune.refinement."""

import sys

from selftune.refinement.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
