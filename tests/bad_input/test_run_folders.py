"""Run folders that are damaged, edited by hand, or of another version."""

from __future__ import annotations

import pytest

from .case import bad, check_run
from .damage import drop, folder_instead, half, put, swap, tensors

EVALUATE = "evaluate | run={crt} | generate=false | split=val | "
PREDICT = "predict | run={crt} | "
EXPORT = "export | run={crt} | out={tmp}/exported | "
ADAPTER, CONNECTOR = "crt/model/adapter/adapter_model.safetensors", "crt/model/connector.safetensors"

CASES = {
    "config of bytes": bad(EVALUATE, 1, "config.yaml: damaged", spoil=put("crt/config.yaml", b"\xff\xfe\x00")),
    "config of nothing": bad(EVALUATE, 1, "config.yaml: damaged", spoil=put("crt/config.yaml", "")),
    "config of a list": bad(EVALUATE, 1, "config.yaml: damaged", spoil=put("crt/config.yaml", "[1, 2]\n")),
    "config of a word": bad(EVALUATE, 1, "config.yaml: damaged", spoil=put("crt/config.yaml", "hello\n")),
    "config that is no YAML": bad(EVALUATE, 1, "config.yaml: damaged", spoil=put("crt/config.yaml", "a: [b\n\tc")),
    "config of a newer version": bad(
        EVALUATE,
        1,
        "config.yaml: damaged, or written by another version",
        "warp",
        spoil=swap("crt/config.yaml", "tag: null\n", "tag: null\nwarp: 9\n"),
    ),
    "config with a word for a number": bad(
        EVALUATE, 1, "config.yaml", "seed", spoil=swap("crt/config.yaml", "split_seed: 0\n", "split_seed: zero\n")
    ),
    "config with a value out of range": bad(
        EVALUATE, 1, "config.yaml", "rank", spoil=swap("crt/config.yaml", "  rank: ", "  rank: -")
    ),
    "config of another VLM": bad(
        EVALUATE, 1, "no-such/model", spoil=swap("crt/config.yaml", "  path: tiny\n", "  path: no-such/model\n")
    ),
    "config that is a folder": bad(
        EVALUATE,
        2,
        "no run there",
        spoil=folder_instead("crt/config.yaml"),
    ),
    "not finished": bad(EVALUATE, 1, "not finished", spoil=drop("crt/summary.json")),
    "half an adapter": bad(EVALUATE, 1, "adapter: damaged", spoil=half(ADAPTER)),
    "an adapter of no bytes": bad(EVALUATE, 1, "adapter: damaged", spoil=put(ADAPTER, "")),
    "no adapter": bad(EVALUATE, 1, "adapter", spoil=drop(ADAPTER)),
    "no folder of the adapter": bad(EVALUATE, 1, "holds no tuned VLM", spoil=drop("crt/model/adapter")),
    "an adapter that lacks a tensor": bad(
        EVALUATE, 1, "adapter: damaged", spoil=tensors(ADAPTER, lambda found: dict(list(found.items())[1:]))
    ),
    "an adapter of another rank": bad(
        EVALUATE,
        1,
        "adapter: damaged",
        spoil=tensors(ADAPTER, lambda found: {name: t[:1].clone() for name, t in found.items()}),
    ),
    "half a connector": bad(EVALUATE + "exemplar=on", 1, "connector.safetensors", "damaged", spoil=half(CONNECTOR)),
    "a connector of text": bad(
        EVALUATE + "exemplar=on", 1, "connector.safetensors", "damaged", spoil=put(CONNECTOR, "x" * 99)
    ),
    "no connector": bad(EVALUATE + "exemplar=on", 1, "connector.safetensors is missing", spoil=drop(CONNECTOR)),
    "a connector of other names": bad(
        EVALUATE + "exemplar=on",
        1,
        "connector.safetensors",
        spoil=tensors(CONNECTOR, lambda found: {f"x.{name}": t for name, t in found.items()}),
    ),
    "a connector of another width": bad(
        EVALUATE + "exemplar=on",
        1,
        "connector.safetensors takes features of 3",
        spoil=tensors(CONNECTOR, lambda found: {**found, "norm.weight": found["norm.weight"][:3].clone()}),
    ),
    "half a description": bad(EVALUATE, 1, "vitask.json", spoil=half("crt/model/vitask.json")),
    "a description of a list": bad(EVALUATE, 1, "vitask.json", spoil=put("crt/model/vitask.json", "[]")),
    "a description without members": bad(EVALUATE, 1, "vitask.json", spoil=put("crt/model/vitask.json", "{}")),
    "a description of wrong members": bad(
        EVALUATE, 1, "vitask.json", spoil=put("crt/model/vitask.json", '{"members": [3]}')
    ),
    "a description of another version": bad(
        EVALUATE, 1, "vitask.json", spoil=swap("crt/model/vitask.json", '"multi_label"', '"many_labels"')
    ),
    "no environment": bad(EVALUATE, 1, "environment.json", spoil=drop("crt/environment.json")),
    "half an environment": bad(EVALUATE, 1, "environment.json", spoil=half("crt/environment.json")),
    "an environment of a list": bad(EVALUATE, 1, "environment.json", spoil=put("crt/environment.json", "[]")),
    "an environment of other types": bad(
        EVALUATE, 1, "environment.json", spoil=put("crt/environment.json", '{"data": []}')
    ),
    "other data": bad(
        EVALUATE,
        1,
        "the data has changed",
        spoil=put("crt/environment.json", '{"data": {"fingerprint": "0123456789abcdef"}}'),
    ),
    "half a TSM": bad(EVALUATE, 1, "tsm.safetensors", spoil=half("tsm/tsm/tsm.safetensors")),
    "a TSM without description": bad(EVALUATE, 1, "tsm.json", spoil=drop("tsm/tsm/tsm.json")),
    "half a TSM's description": bad(EVALUATE, 1, "tsm.json", spoil=half("tsm/tsm/tsm.json")),
    "a TSM's description of a list": bad(EVALUATE, 1, "tsm.json", spoil=put("tsm/tsm/tsm.json", "[]")),
    "a TSM's description that lacks keys": bad(EVALUATE, 1, "tsm.json", spoil=put("tsm/tsm/tsm.json", "{}")),
    "no TSM": bad(EVALUATE + "exemplar=on", 1, "no finished TSM", spoil=drop("tsm")),
    "a report of a damaged summary": bad("report | {crt} | out={tmp}/r", 2, "crt-", spoil=put("crt/summary.json", "{")),
    "half an adapter, predicted": bad(PREDICT + "{image}", 1, "adapter: damaged", spoil=half(ADAPTER)),
    "half an adapter, exported": bad(EXPORT, 1, "adapter", spoil=half(ADAPTER)),
    "half an adapter, trained on": bad(
        "train | stage=crt | {settings} | objective.beta=0.5 | prerequisites=require",
        1,
        "adapter: damaged",
        spoil=half("ep/model/adapter/adapter_model.safetensors"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_run(name, cli, runs):
    check_run(CASES[name], cli, runs)
