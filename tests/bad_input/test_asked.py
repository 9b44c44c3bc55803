"""What a finished run is asked and cannot do, or cannot do with what it is given."""

from __future__ import annotations

import pytest

from .case import bad, check_run

EVALUATE = "evaluate | run={crt} | generate=false | split=val | "
PREDICT = "predict | run={crt} | "
EXPORT = "export | run={crt} | out={tmp}/exported | "

CASES = {
    "no run": bad("evaluate | run={tmp}/none", 2, "no run there"),
    "a run that is a file": bad("evaluate | run={crt}/summary.json", 2, "no run there"),
    "a folder of runs": bad("evaluate | run={tmp}", 2, "no run there"),
    "a run without a name": bad("evaluate | run=", 2, "run="),
    "a TSM that is a VLM": bad(EVALUATE + "tsm={ep}", 1, "tsm"),
    "a TSM that is nothing": bad(EVALUATE + "tsm={tmp}/none", 1, "none"),
    "data that is nothing": bad(EVALUATE + "data={tmp}/none", 2, "none"),
    "data that is always the same": bad(EVALUATE + "data=digits | data.split_seed=1", 2, "data.split_seed: digits"),
    "data of other labels": bad(EVALUATE + "data=digits", 1, "the labels of this data"),
    "an exemplar that it never saw": bad("evaluate | run={vanilla} | exemplar_content=constant", 2, "sees no exemplar"),
    "a TSM and a table": bad(EVALUATE + "tsm={tsm} | exemplar_table={tmp}/v.csv", 2, "give one of them"),
    "a table that is nothing": bad(EVALUATE + "exemplar=on | exemplar_table={tmp}/v.csv", 1, "v.csv"),
    "a TSM that decodes contrastively": bad("evaluate | run={tsm} | contrast=1", 2, "contrast"),
    "a TSM that ranks": bad("evaluate | run={tsm} | ranking=true", 2, "ranking"),
    "a TSM that was not tuned": bad("evaluate | run={tsm} | tuned=false", 2, "tuned"),
    "a TSM that is probed": bad("evaluate | run={tsm} | probe=embedded", 2, "probe"),
    "a probe that is nothing": bad(EVALUATE + "probe={tmp}/p.jsonl", 2, "p.jsonl: no such table"),
    "infinite contrast": bad(EVALUATE + "contrast=inf", 2, "contrast"),
    "no image": bad("predict | run={crt}", 2, "no image given"),
    "an image that is nothing": bad(PREDICT + "{tmp}/none.png", 2, "none.png: no such file"),
    "an image that is text": bad(PREDICT + "{text}", 1, "notes.png"),
    "an image of no bytes": bad(PREDICT + "{empty}", 1, "empty.png"),
    "a folder of files that are no images": bad(PREDICT + "{tmp}", 1, "empty.png: cannot be read as an image"),
    "a set that is none": bad(PREDICT + "set=shapez | {image}", 2, "shapez"),
    "export over something": bad("export | run={crt} | out={crt}", 2, "crt-"),
    "export onto a file": bad("export | run={crt} | out={text}", 2, "notes.png"),
    "export of a TSM": bad("export | run={tsm} | out={tmp}/e", 2, "tsm"),
    "export to nowhere": bad(EXPORT + "push=a/b/c", 2, "push"),
    "a run with nothing": bad("compare | {crt} | {tmp}/none", 2, "no run there"),
    "seeds that do not pair": bad("compare | {crt} | {ep} | with | {crt}", 2, "seed"),
    "a finished run again": bad("train | stage=crt | {settings}", 1, "is finished; add overwrite=true"),
    "a missing stage that is required": bad(
        "train | stage=crt | {settings} | seed=9 | prerequisites=require", 1, "not finished"
    ),
    "a report of what is not evaluated": bad("report | {crt} | out={tmp}/r", 2, "nothing is evaluated"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_run_cannot_do(name, cli, runs):
    check_run(CASES[name], cli, runs)
