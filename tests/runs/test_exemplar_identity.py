"""Which run and which images it is, where exemplars come from a table or are changed, and where the TSM is needed."""

from __future__ import annotations

import shutil
from functools import cache

import pyarrow as pa
import pytest
from omegaconf import OmegaConf
from pyarrow import parquet

from vitask.config.build import build_hints, build_task
from vitask.config.compose import checked, compose_config
from vitask.config.schema import Config
from vitask.runs.exemplars import file_set, image_set
from vitask.runs.identity import at_stage, needs_tsm, run_folder


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "own.parquet"
    parquet.write_table(pa.table({"id": ["a"], "vector": [[1.0, 2.0]]}), path)
    return path


def changed(*overrides: str) -> Config:
    """The default configuration with overrides; composing it each time would take seconds."""
    return checked(Config, OmegaConf.merge(default(), OmegaConf.from_dotlist(list(overrides))))


@cache
def default():
    return OmegaConf.structured(compose_config("train", []))


def code(stage: str, *overrides: str) -> str:
    return run_folder(at_stage(changed(*overrides), stage)).name


def test_a_run_follows_from_the_content_of_its_table_and_not_from_its_place(table, tmp_path):
    copy = tmp_path / "copy.parquet"
    shutil.copy(table, copy)
    same = f"exemplar.table={table}"
    assert code("ep", same) == code("ep", f"exemplar.table={copy}") != code("ep")
    assert code("ep", same) == code("ep", same, "exemplar.features=patches") == code("ep", same, "tsm.optim.epochs=7")
    assert code("vanilla", same) == code("vanilla")
    assert code("ep", same, "exemplar.position=before_assistant") != code("ep", same)
    before = code("crt", f"exemplar.table={copy}")
    parquet.write_table(pa.table({"id": ["a"], "vector": [[1.0, 3.0]]}), copy)
    assert code("crt", f"exemplar.table={copy}") != before


def test_content_and_hint_are_part_of_a_run():
    contents = [code("ep", f"exemplar.content={content}") for content in ("image", "shuffled", "constant")]
    assert len(set(contents)) == 3
    assert code("ep", "exemplar.content=constant", "tsm.optim.epochs=7") == contents[2]
    assert code("ep", "exemplar.content=constant", "tsm.name=resnet34") != contents[2]
    hint = "data.instruction.hint=true"
    assert code("vanilla", hint) != code("vanilla")
    assert code("tsm", hint) == code("tsm")
    assert code("vanilla", hint) != code("vanilla", hint, "tsm.optim.epochs=7")


@pytest.mark.parametrize(
    ("stage", "overrides", "wanted"),
    [
        ("ep", [], True),
        ("ep", ["exemplar.content=shuffled"], True),
        ("ep", ["exemplar.content=constant"], False),
        ("ep", ["exemplar.table=x.csv"], False),
        ("ep", ["exemplar.content=constant", "objective.csa=1"], True),
        ("vanilla", [], False),
        ("vanilla", ["data.instruction.hint=true"], True),
    ],
)
def test_the_tsm_is_needed_where_it_is_looked_at(stage, overrides, wanted):
    assert needs_tsm(at_stage(changed(*overrides), stage)) == wanted


def test_images_of_a_mixture_go_by_their_data_set_and_stay_in_it(shapes, small):
    members = f"{{one: {{source: image_folder, root: {shapes}}}, two: {{source: image_folder, root: {shapes}}}}}"
    settings = [word for word in small if not word.startswith("data")]
    config = compose_config("train", ["data=mixture", f"data.members={members}", *settings])
    shown = image_set(build_task(config.data, config.seed, config.cache), "test")
    assert shown.sets == [range(12), range(12, 24)]
    assert [shown.names[row] for row in (0, 12)] == [("one/test/bar/0.png",), ("two/test/bar/0.png",)]
    assert not needs_tsm(at_stage(config, "vanilla"))
    own_hint = members.replace("root", "instruction: {hint: true}, root", 1)
    config = compose_config("train", ["data=mixture", f"data.members={own_hint}", *settings])
    assert needs_tsm(at_stage(config, "vanilla"))
    assert [hint is not None for hint in build_hints(config.data)] == [True, False]


def test_a_file_goes_by_the_end_of_its_path_and_never_by_a_number(tmp_path):
    (names,) = file_set([tmp_path / "test/bar/0.png"], [None]).names
    assert names[0] == f"{tmp_path}/test/bar/0.png"
    assert [name for name in names if len(name) < 15] == ["test/bar/0.png", "bar/0.png", "0.png", "test/bar/0", "bar/0"]
    (names,) = file_set([tmp_path / "a.png"], [None], "set/").names
    assert names[-1] == "set/a"
    assert all(name.startswith("set/") for name in names[1:])
