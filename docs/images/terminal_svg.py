"""Make docs/images/demo.svg: run `keepstone demo` and draw what it prints. Nothing in the picture is typed by hand.

    python docs/images/terminal_svg.py

Paths of the temporary folder are shortened to /tmp/demo and lines are folded at 110 columns; the rest is as printed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

COLUMNS = 110
CHARACTER_WIDTH, LINE_HEIGHT, MARGIN, BAR = 7.83, 19, 18, 34
TARGET = Path(__file__).with_name("demo.svg")
COLORS = {"prompt": "#7ee787", "text": "#e6edf3", "dim": "#9da7b3"}


def folded(text: str) -> list[str]:
    """Return the lines of `text`, long ones folded at spaces where there are any."""
    lines: list[str] = []
    for line in text.splitlines():
        while len(line) > COLUMNS:
            cut = line.rfind(" ", 40, COLUMNS + 1)
            cut = cut if cut > 0 else COLUMNS
            lines.append(line[:cut])
            line = "    " + line[cut:].lstrip()
        lines.append(line)
    return lines


def drawn(lines: list[str]) -> str:
    """Return an SVG of a terminal that shows `lines`."""
    width = round(COLUMNS * CHARACTER_WIDTH + 2 * MARGIN)
    height = BAR + MARGIN + len(lines) * LINE_HEIGHT + MARGIN
    dots = "".join(
        f'<circle cx="{20 + 18 * i}" cy="17" r="6" fill="{color}"/>'
        for i, color in enumerate(("#ff5f57", "#febc2e", "#28c840"))
    )
    rows = "\n".join(
        f'<text x="{MARGIN}" y="{BAR + MARGIN + i * LINE_HEIGHT}" fill="{color_of(line)}">{escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">\n'
        f"<title>Output of keepstone demo</title>\n"
        f'<rect width="{width}" height="{height}" rx="9" fill="#0d1117"/>\n{dots}\n'
        f'<g font-family="ui-monospace, SFMono-Regular, Menlo, monospace" font-size="13" xml:space="preserve">\n'
        f"{rows}\n</g>\n</svg>\n"
    )


def color_of(line: str) -> str:
    if line.lstrip().startswith("$ "):
        return COLORS["prompt"]
    return COLORS["dim"] if line.startswith("  ") else COLORS["text"]


def main(target: Path = TARGET) -> None:
    """Run the demo, draw it to `target`, and remove what it made."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "keepstone", "demo"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "TMPDIR": folder, "COLUMNS": str(COLUMNS)},
        )
    shown = re.sub(re.escape(folder) + r"/keepstone-demo-\w+", "/tmp/demo", done.stdout)
    target.write_text(drawn(["$ keepstone demo", *folded(shown)]), encoding="utf-8")


if __name__ == "__main__":
    main()
