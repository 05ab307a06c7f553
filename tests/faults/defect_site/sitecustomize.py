"""Plants the defect that PLANTED_DEFECT names, in every Python that a test run with this folder on its path starts."""

import os
import sys
from pathlib import Path

if os.environ.get("PLANTED_DEFECT"):
    _root = str(Path(__file__).resolve().parents[3])
    sys.path.insert(0, _root)
    try:
        from tests.faults.defects import plant

        plant(os.environ["PLANTED_DEFECT"])
    finally:
        sys.path.remove(_root)
