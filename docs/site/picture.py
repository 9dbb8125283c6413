"""Makes docs/terminal.svg of a real run of the demo suite: the README's picture.

In an environment that has the package and rich: ``python docs/site/picture.py``.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[2]
COLUMNS = 112
COMMAND = ["pytest", "-v", "--tb=no", "--no-header", "--isolate-usage=3", "test_harmless.py", "test_beyond_limits.py"]
_QUIET = ["-p", "no:cacheprovider", "--color=yes"]


def main() -> None:
    """Run the suite, and draw what the terminal shows."""
    run = subprocess.run(
        [sys.executable, "-m", *COMMAND, *_QUIET], cwd=ROOT / "examples", env={**os.environ, "COLUMNS": str(COLUMNS)},
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text(f"$ {' '.join(COMMAND)}", style="bold"))
    console.print(Text.from_ansi(run.stdout))
    svg = console.export_svg(title="examples", unique_id="terminal")
    svg = re.sub(r"<!--.*?-->", "", svg)
    # A picture in a page may fetch no fonts. The widths are written out, so any fixed font will do.
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code", "monospace")
    (ROOT / "docs/terminal.svg").write_text(re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE))


if __name__ == "__main__":
    main()
