"""Sets in the layout that their authors publish: what the sources of APTOS, IDRiD, MESSIDOR and HAM10000 share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from vitask.data.sources.image_folder import image_suffixes
from vitask.data.sources.table_files import Table
from vitask.errors import VitaskError


def existing_root(root: str | Path, what: str) -> Path:
    """Return the folder of a set.

    Raises:
        VitaskError: It is not there.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise VitaskError(f"{root}: no such folder; data.root is the folder of {what}")
    return root


def one_file(root: Path, *patterns: str) -> Path:
    """Return the one file below a folder that fits the first pattern that any file fits.

    Raises:
        VitaskError: There is none.
    """
    for pattern in patterns:
        found = sorted(root.rglob(pattern))
        if found:
            return found[0]
    raise VitaskError(f"{root}: has no file {' or '.join(patterns)} in it or below it")


def image_finder(root: Path) -> Callable[[str], Path]:
    """Return what finds the image of a name anywhere below a folder, with any ending and in any case of letters.

    Published tables name images with another ending than the files have, or with none.
    """
    suffixes = image_suffixes()
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in suffixes)
    by_name = {path.name.casefold(): path for path in reversed(files)}
    by_stem = {path.stem.casefold(): path for path in reversed(files)}

    def find(name: str) -> Path:
        key = Path(name).name.casefold()
        stem = key.rpartition(".")[0] if Path(key).suffix in suffixes else key
        return by_name.get(key) or by_stem.get(stem) or root / name

    return find


def rows_of(table: Table, keep: Sequence[int]) -> Table:
    """Return a table of some rows of another one."""
    columns = {name: [values[row] for row in keep] for name, values in table.columns.items()}
    return replace(table, columns=columns, places=[table.places[row] for row in keep])
