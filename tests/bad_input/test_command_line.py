"""Verbs, grids and folders of configs that are named wrongly."""

from __future__ import annotations

import pytest

from .case import bad, check, write

CASES = {
    "seeds are not numbers": bad("ablate | demo | seeds=[x,y]", 2, "seeds"),
    "a grid of an unknown reference": bad("ablate | demo | references=[vanila]", 2, "Did you mean 'vanilla'?"),
    "a grid with a broken row": bad("ablate | demo | rows.x=[sed=1] | out={out}", 2, "sed"),
    "a grid's metric": bad("ablate | demo | effects.x.metric=acc", 2, "effects"),
    "grids of nothing": bad("ablate | demo | rows=null", 2, "rows"),
    "no folder of configs": bad("--config-dir | {tmp}/none | train", 2, "--config-dir", "no such folder"),
    "no word behind --config-dir": bad("train | --config-dir", 2, "--config-dir needs a folder"),
    "damaged config of one's own": bad(
        "--config-dir | {tmp} | train | optim=mine", 2, "no YAML", "mine.yaml", spoil=write("optim/mine.yaml", "a: [b")
    ),
    "unknown key in a config of one's own": bad(
        "--config-dir | {tmp} | train | optim=mine", 2, "sped", spoil=write("optim/mine.yaml", "sped: 1")
    ),
    "stage of one's own without a value": bad(
        "--config-dir | {tmp} | train | stage=mine", 2, "stage", spoil=write("stage/mine.yaml", "name: mine")
    ),
    "no verb": bad("trane | stage=ep", 2, "Did you mean 'train'?"),
    "action of data": bad("data | inspekt", 2, "Did you mean 'inspect'?"),
    "bench on a GPU that is not there": bad("bench | device=cuda | out={out}/b.json", 2, "device=cuda"),
    "bench into a folder": bad("bench | size=tiny | repeats=1 | warmup=0 | out={tmp}", 2, "out="),
    "report of nothing": bad("report | {tmp}/none", 2, "none"),
    "report of a file": bad("report | {tmp}/f", 2, "/f", spoil=write("f", "x")),
    "report of an empty folder": bad("report | {tmp}/e", 2, "/e", spoil=lambda folder: (folder / "e").mkdir()),
    "predict an override that is a path": bad("predict | run=x | a=b.png", 2, "a"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_command_line(name, cli, places):
    CASES[name].spoil(places["tmp"])
    check(CASES[name], cli, places["tmp"], **places)
