"""Write RESULTS.md: every grid of the paper and of the controls over five seeds on the embedded default.

python scripts/results.py                           # some hours on two cores; what is finished is kept
python scripts/results.py --medmnist ~/medmnist     # with the chest X-rays (pneumoniamnist.npz)
python scripts/results.py --only table2 fig2        # these grids alone, those that are there are written up too
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from vitask.config.grid import compose_grid
from vitask.reporting.results import results_page
from vitask.runs.folder import read_json, write_text

GRIDS = (
    "closed_set", "table1", "table2", "table3", "fig2", "fig3", "fig4", "fig5", "controls", "few", "long_tail",
    "under_training", "large_tsm", "forms", "retention", "generation", "recommended", "recommended_parity",
    "recommended_size", "recommended_pairs", "regimes", "recipe_search", "crt_search", "term_search",
)  # fmt: skip
ON_MEDMNIST = ("recommended_xray",)
PACKAGES = ("torch", "transformers", "peft", "timm")


def main() -> None:
    """Run the grids that are asked for, then write up all that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where the runs go")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="of grids that name fewer")
    parser.add_argument("--workers", type=int, default=2, help="seeds at a time")
    parser.add_argument("--only", nargs="*", help="names of grids; none: write up what is there")
    parser.add_argument("--medmnist", type=Path, help="the folder of pneumoniamnist.npz")
    parser.add_argument("--page", type=Path, default=Path("RESULTS.md"))
    asked = parser.parse_args()
    names = [*GRIDS, *(ON_MEDMNIST if asked.medmnist else ())]
    for name in names if asked.only is None else asked.only:
        seeds = max(compose_grid(name, [])[0].seeds, asked.seeds, key=len)
        settings = [f"seeds={seeds}".replace(" ", ""), f"workers={asked.workers}", f"out={asked.out}"]
        settings += [f"data.root={asked.medmnist}"] if name in ON_MEDMNIST else []
        subprocess.run([sys.executable, "-m", "vitask", "ablate", name, *settings], check=True)
    found = {name: asked.out / "ablations" / name / "results.json" for name in (*GRIDS, *ON_MEDMNIST)}
    grids = {name: read_json(path) for name, path in found.items() if path.exists()}
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    introduction = (
        "Written by `python scripts/results.py` from the grids of [configs/ablation](configs/ablation), which it "
        "runs on the embedded default: handwritten digits of 8 by 8 pixels (chest X-rays where the title says so), "
        "a tiny InternVL of 0.7 M parameters, a CPU. "
        f"The effects of the paper were found with a model 3,000 times as large. {versions}."
    )
    write_text(asked.page, results_page(grids, introduction))


if __name__ == "__main__":
    main()
