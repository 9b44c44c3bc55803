"""`vitask export push=...`: only when asked, private unless said otherwise; refused early where that can be."""

from __future__ import annotations

from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled


@pytest.fixture
def hub(monkeypatch):
    """A hub that is reachable, and writes down what it is asked to do."""
    done = SimpleNamespace(calls=[], private=True)

    def create(self, name, **options):
        done.calls.append(("create", name, options))
        return f"https://hub/{name}"

    def upload(self, **options):
        files = sorted(path.name for path in options["folder_path"].iterdir())
        done.calls.append(("upload", options["repo_id"], files))

    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_made_up")
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload)
    monkeypatch.setattr(
        huggingface_hub.HfApi, "repo_info", lambda self, name: SimpleNamespace(private=done.private), raising=True
    )
    return done


@pytest.fixture
def arguments(pipeline, tmp_path) -> list[str]:
    return ["export", f"run={pipeline.run('vanilla')}", "to=adapter", f"out={tmp_path / 'out'}", "samples=1"]


def test_the_folder_is_uploaded_to_a_private_repository(hub, arguments, tmp_path, cli):
    ended = cli(*arguments, "push=me/shapes")
    assert ended.code == 0, ended
    assert "uploaded to https://hub/me/shapes" in ended.out
    assert hub.calls[0] == ("create", "me/shapes", {"private": True, "exist_ok": True})
    assert hub.calls[1][:2] == ("upload", "me/shapes")
    assert {"README.md", "labels.json", "adapter_model.safetensors"} <= set(hub.calls[1][2])
    assert 'snapshot_download("me/shapes")' in (tmp_path / "out/README.md").read_text()


def test_a_public_repository_gets_nothing_unless_that_is_said(hub, arguments, tmp_path, cli):
    hub.private = False
    assert cli(*arguments, "push=me/shapes").refuses(2, "push=me/shapes: this repository is public", "private=false")
    assert [call[0] for call in hub.calls] == ["create"]
    assert cli(*arguments, "push=me/shapes", "private=false", "overwrite=true").code == 0
    assert [call[0] for call in hub.calls] == ["create", "create", "upload"]
    assert hub.calls[1][2]["private"] is False


def test_without_push_nothing_is_uploaded(hub, arguments, cli):
    assert cli(*arguments).code == 0
    assert hub.calls == []


@pytest.mark.parametrize("name", ["shapes", "a/b/c", "https://huggingface.co/me/shapes", "me/"])
def test_a_name_that_is_none_is_refused_before_the_work(name, hub, arguments, tmp_path, cli):
    assert cli(*arguments, f"push={name}").refuses(2, f"push={name}: expected the name of a repository")
    assert list(tmp_path.iterdir()) == hub.calls == []


def test_offline_or_not_logged_in_is_said_before_the_work(hub, arguments, tmp_path, cli, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert cli(*arguments, "push=me/shapes").refuses(2, "not logged in", "HF_TOKEN")
    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: True)
    assert cli(*arguments, "push=me/shapes").refuses(2, "HF_HUB_OFFLINE is set")
    assert list(tmp_path.iterdir()) == hub.calls == []


def test_a_hub_that_cannot_be_reached_leaves_the_export_where_it_is(hub, arguments, tmp_path, cli, monkeypatch):
    def fail(self, **options):
        raise OfflineModeIsEnabled("no way\nto the hub")

    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", fail)
    assert cli(*arguments, "push=me/shapes").refuses(1, "not uploaded, no way to the hub", str(tmp_path / "out"))
    assert (tmp_path / "out/README.md").is_file()
