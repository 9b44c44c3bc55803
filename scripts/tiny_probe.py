"""Write the tiny VLM's probe: new pictures of shapes, with questions and answers as in its pre-training.

It tells what tuning has cost the model of what it could do before (`vitask evaluate run=... probe=embedded`). Each
picture comes with a caption, two choices and words to repeat. ``pretrain_tiny_vlm.py`` writes it too.

    python scripts/tiny_probe.py --out vitask/vlm/tiny/probe.parquet
"""

from __future__ import annotations

import argparse
import io
import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow
from PIL import Image
from pyarrow import parquet
from tiny_shapes import CAPTION_WORDINGS, draw_choice, draw_repeat, draw_scene, paint

PICTURES = 64


def draw_rows() -> Iterator[tuple[bytes, str, str]]:
    """Yield PNG, prompt and answer, always the same; pre-training draws from another stream of random numbers."""
    rng = random.Random("probe")
    for _ in range(PICTURES):
        scene = draw_scene(rng)
        png = io.BytesIO()
        Image.fromarray(paint(scene, rng)).save(png, format="PNG", optimize=True)
        questions = [
            (rng.choice(CAPTION_WORDINGS), scene.caption()),
            *(draw_choice(scene, rng)[:2] for _ in range(2)),
            draw_repeat(rng),
        ]
        for prompt, answer in questions:
            yield png.getvalue(), prompt, answer


def write_probe(path: Path) -> None:
    """Write the table; pictures that recur are stored once."""
    columns = zip(*draw_rows(), strict=True)
    table = pyarrow.table(dict(zip(("image", "prompt", "answer"), map(list, columns), strict=True)))
    parquet.write_table(table, path, compression="zstd")


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("vitask/vlm/tiny/probe.parquet"), help="file to write")
    write_probe(parser.parse_args().out)


if __name__ == "__main__":
    main()
