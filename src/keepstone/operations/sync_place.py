"""The other store of a sync, where there is none: what to do about it.

Layer: operations.
"""

from __future__ import annotations

import os
from typing import Final

from keepstone.foundation.format import STORE_KEY
from keepstone.storage.locate import is_url

_PROJECT_FOLDER: Final = ".keepstone"
"""Where the command line keeps the store of a project."""


def how_to_name(location: str, *, creates: bool) -> str:
    """Return a hint for who named a place without a store; `creates`: one could be made there."""
    inside = os.path.join(location, _PROJECT_FOLDER)
    if not is_url(location) and os.path.exists(os.path.join(inside, STORE_KEY)):
        return f"there is one at {inside}"
    said = "a store in a bucket is named s3://bucket/prefix"
    if creates:
        made = "if it is to be made, say so: `--create`, `create=True`"
        return made if is_url(location) else f"{made}; {said}"
    return "name a store that exists" if is_url(location) else f"name the folder of a store; {said}"
