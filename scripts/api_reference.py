"""Write the API reference, plain HTML, from the docstrings of what is public; `bash scripts/docs.sh` calls it."""

from __future__ import annotations

import sys
from pathlib import Path

import pdoc

import vitask

MODULES = ("vitask", "vitask.losses", "vitask.data", "vitask.tsm")
"""The packages that say in `__all__` what of them is public."""


def main(folder: Path) -> None:
    """Build the pages into a folder."""
    for name in vitask.__all__:  # `import vitask` loads them late, which pdoc does not see
        setattr(vitask, name, getattr(vitask, name))
    pdoc.render.configure(docformat="google", footer_text=f"vitask {vitask.__version__}")
    pdoc.pdoc(*MODULES, output_directory=folder)
    print(folder / "index.html")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
