"""`python -m dotflow` is the command `dotflow`."""

import sys

from dotflow.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
