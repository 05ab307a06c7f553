"""`python -m keepstone`: the same command, for machines where no script is installed.

Layer: cli.
"""

from __future__ import annotations

import sys

from keepstone.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
