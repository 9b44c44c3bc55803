"""What an embedded set would ignore is refused, so that no two runs look like replicates."""

from __future__ import annotations

import pytest

from vitask.config.compose import compose_config, groups
from vitask.config.embedded import IGNORED, check_embedded
from vitask.errors import UsageError

VALUES = {
    "root": "photos",
    "path": "table.csv",
    "subset": "a",
    "revision": "main",
    "size": "28",
    "raw_labels": "true",
    "ordinal": "true",
    "no_finding": "none",
    "columns": "{label: grade}",
    "splits": "{train: a}",
    "fractions": "[0.5,0.2,0.3]",
    "split_seed": "1",
    "corrupt": "skip",
    "allow_missing": "true",
    "members": "{a: {source: digits}}",
}
PAIR = "data.members={a: {source: digits}, b: {source: digits_parity}}"
MIXED = "data.members={a: {source: digits}, b: {source: table, path: b.csv}}"


def check(*overrides: str) -> None:
    check_embedded(compose_config("train", list(overrides)).data)


def test_every_ignored_option_is_tried():
    assert set(VALUES) == set(IGNORED)


@pytest.mark.parametrize("key", VALUES)
def test_what_would_be_ignored_is_refused_by_name(key):
    with pytest.raises(UsageError, match=rf"^data\.{key}: digits_size is embedded"):
        check("data=digits_size", f"data.{key}={VALUES[key]}")


@pytest.mark.parametrize("data", [name for name in groups()["data"] if name.startswith("digits")])
@pytest.mark.parametrize(
    "override",
    [
        *("data.train_fraction=0.5", "data.label_noise=0.2", "data.imbalance=0.5", "data.shift.noise=0.1"),
        *("data.modality=sign", "data.separator=' and '", "data.name=mine", "data.download=true"),
        *("data.label_file=l.yaml", "data.label_texts=[a, b]", "data.split_seed=0", "data.instruction.complete=false"),
    ],
)
def test_what_works_on_any_data_stays(data, override):
    check(f"data={data}", override)


def test_the_word_for_no_finding_is_part_of_a_hint():
    check("data=digits_pairs", "data.no_finding=none", "data.instruction.hint=true")


@pytest.mark.parametrize(
    ("overrides", "place"),
    [
        ([PAIR, "data.split_seed=1"], "data.split_seed"),
        ([PAIR.replace("digits}", "digits, size: 28}")], "data.members.a.size"),
        ([MIXED.replace("digits}", "digits, split_seed: 2}"), "data.split_seed=1"], "data.members.a.split_seed"),
        ([MIXED, "data.split_seed=1", "data.size=28", "data.root=photos"], None),
        ([PAIR, "data.train_fraction=0.5"], None),
    ],
)
def test_what_a_mixture_says_is_for_the_members_that_take_it(overrides, place):
    if place is None:
        check("data=mixture", *overrides)
        return
    with pytest.raises(UsageError, match=f"^{place}: digits is embedded"):
        check("data=mixture", *overrides)


@pytest.mark.parametrize(
    "words",
    [("train",), ("data", "inspect"), ("ablate", "demo")],
)
def test_nothing_begins(words, cli, tmp_path):
    out = tmp_path / "out"
    assert cli(*words, "data.split_seed=1", f"out={out}").refuses(2, "data.split_seed: digits is embedded")
    assert not out.exists()
