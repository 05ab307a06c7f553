"""A folder to save."""

from __future__ import annotations

from pathlib import Path


def make_folder(root: Path) -> Path:
    """Make a folder with folders, an empty one, and links of all kinds."""
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "rows.csv").write_text("a,b\n1,2\n3,4\n")
    (root / "sub" / "part@1.txt").write_text("0123456789")
    (root / "inside").symlink_to("sub/part@1.txt")
    (root / "outside").symlink_to("/etc/hostname")
    (root / "circle").symlink_to("circle")
    return root
