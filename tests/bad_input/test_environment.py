"""Variables, packages, devices and places of the machine that are not what a run needs."""

from __future__ import annotations

import sys

import pytest

from .case import bad, check, write
from .material import TABLE, TRAIN

VARIABLES = {
    "ranks that are no number": ({"WORLD_SIZE": "two"}, bad(TRAIN + "stage=tsm", 2, "WORLD_SIZE=two")),
    "a rank that is no number": ({"WORLD_SIZE": "2", "RANK": "x"}, bad(TRAIN + "stage=tsm", 2, "RANK=x")),
    "a rank alone": ({"RANK": "1"}, bad(TRAIN + "stage=tsm", 2, "RANK=1", "WORLD_SIZE says 1 process")),
    "a rank beyond them": (
        {"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"},
        bad(TRAIN + "stage=tsm", 2, "RANK=2", "WORLD_SIZE says 2"),
    ),
    "ranks without a place to meet": (
        {"WORLD_SIZE": "2", "RANK": "0"},
        bad(TRAIN + "stage=tsm", 2, "WORLD_SIZE=2", "LOCAL_RANK, MASTER_ADDR"),
    ),
    "sharding by accelerate": (
        {"ACCELERATE_USE_FSDP": "true"},
        bad(TRAIN + "stage=tsm", 2, "ACCELERATE_USE_FSDP", "launch.shard=true"),
    ),
    "an address that nobody has": (
        {"NODE_RANK": "1", "MASTER_ADDR": "no.such.host.invalid"},
        bad(
            TRAIN + "stage=tsm | launch=multi_node | launch.machines=2 | launch.processes=1",
            2,
            "launch.address=no.such.host.invalid: no such machine",
        ),
    ),
    "a folder of configs that has gone": ({"VITASK_CONFIG_DIR": "/no/such"}, bad("train", 2, "/no/such")),
}
PLACES = {
    "out is a file": bad("train | stage=tsm | out={tmp}/f | cache={cache}", 1, "/f", spoil=write("f", "x")),
    "out cannot be written": bad("train | stage=tsm | out=/proc/vitask | cache={cache}", 1, "/proc/vitask"),
}
PACKAGES = {
    "openpyxl": bad(TABLE.replace("t.csv", "t.xlsx"), 2, "vitask[excel]", spoil=write("t.xlsx", b"PK\x03\x04")),
}


@pytest.mark.parametrize("name", VARIABLES)
def test_a_wrong_variable(name, cli, places, monkeypatch):
    variables, case = VARIABLES[name]
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    check(case, cli, places["tmp"], **places)


@pytest.mark.parametrize("name", PLACES)
def test_a_wrong_place(name, cli, places):
    PLACES[name].spoil(places["tmp"])
    check(PLACES[name], cli, places["tmp"], **places)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_that_is_not_installed(package, cli, places, monkeypatch):
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    PACKAGES[package].spoil(places["tmp"])
    check(PACKAGES[package], cli, places["tmp"], **places)
