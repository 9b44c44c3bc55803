"""Upload of an exported folder to the Hugging Face Hub, when asked to."""

from __future__ import annotations

import re
from pathlib import Path

from vitask.errors import UsageError, VitaskError

NAME = re.compile(r"[\w.-]+/[\w.-]+")


def check_push(name: str) -> None:
    """Raise a `UsageError` if nothing could be uploaded under this name, before the work begins."""
    from huggingface_hub import get_token, is_offline_mode

    if not NAME.fullmatch(name):
        raise UsageError(f"push={name}: expected the name of a repository, push=<user or organisation>/<name>")
    if is_offline_mode():
        raise UsageError(f"push={name}: HF_HUB_OFFLINE is set, so nothing is uploaded; unset it, or leave push out")
    if get_token() is None:
        raise UsageError(f"push={name}: not logged in to the Hugging Face Hub; run `hf auth login`, or set HF_TOKEN")


def push(folder: Path, name: str, *, private: bool) -> str:
    """Upload a folder, and return its address.

    Args:
        folder: what was exported.
        name: `owner/name` of a model repository, made if it is not there.
        private: whether a new repository is private; with it, one that is public is left alone.

    Raises:
        UsageError: the repository is public, and nobody said that this may be.
        VitaskError: the hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, HTTPError

    hub = HfApi()
    try:
        address = hub.create_repo(name, private=private, exist_ok=True)
        if private and not hub.repo_info(name).private:
            raise UsageError(f"push={name}: this repository is public; say private=false to publish there")
        hub.upload_folder(repo_id=name, folder_path=folder, commit_message="vitask export")
    except (HTTPError, HFValidationError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise VitaskError(f"push={name}: not uploaded, {reason} The export stands at {folder}") from error
    return str(address)
