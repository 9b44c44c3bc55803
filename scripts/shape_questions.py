"""Write an open-ended data set to try things on: pictures of shapes, questions about them, and captions.

    python scripts/shape_questions.py --out shapes --pictures 400
    vitask train data=instructions data.path=shapes/questions.jsonl tsm.tune=none

Each picture comes with a caption and with every question that has one answer: color, shape, count, size, position.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from PIL import Image
from tiny_shapes import draw_scene, paint

QUESTIONS = {
    "color": "What color is it?",
    "shape": "What shape is it?",
    "count": "How many shapes are there?",
    "size": "How large is it?",
    "position": "Where is it?",
}
CAPTION = "Describe the image."
SPLITS = {"train": 0.6, "val": 0.2, "test": 0.2}


def write_questions(folder: Path, pictures: int, seed: int = 0) -> Path:
    """Write the pictures and `questions.jsonl`, always the same for a seed, and return the table's path."""
    rng = random.Random(f"questions {seed}")
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(pictures):
        scene = draw_scene(rng)
        name = f"{number:05d}.png"
        Image.fromarray(paint(scene, rng)).save(folder / name)
        split = rng.choices(list(SPLITS), list(SPLITS.values()))[0]
        asked = {QUESTIONS[key]: answer for key, answer in scene.answers().items() if key in QUESTIONS}
        for instruction, response in {CAPTION: scene.caption(), **asked}.items():
            rows.append({"image": name, "instruction": instruction, "response": response, "split": split})
    table = folder / "questions.jsonl"
    table.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return table


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("shapes"), help="folder to write")
    parser.add_argument("--pictures", type=int, default=400, help="how many")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(write_questions(options.out, options.pictures, options.seed))


if __name__ == "__main__":
    main()
