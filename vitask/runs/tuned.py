"""A finished VLM run, loaded for inference: the model, its prompter, and what it was tuned to answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from vitask.config.build import build_placement, build_vlm
from vitask.data import vectors_digest
from vitask.errors import UsageError, VitaskError
from vitask.runs.folder import RunFolder, read_json
from vitask.runs.identity import at_stage, needs_exemplar, run_folder
from vitask.runs.questions import Question
from vitask.tsm import load_tsm, weights_digest
from vitask.vlm.load import resolve_path
from vitask.vlm.saving import CONNECTOR, DESCRIPTION, load_weights

if TYPE_CHECKING:
    from vitask.config.schema import Config
    from vitask.tsm import TSM, ExemplarSource
    from vitask.vlm.model import ExemplarVLM
    from vitask.vlm.prompts import Prompter


@dataclass(frozen=True)
class TunedVLM:
    """What inference needs of a VLM run.

    Attributes:
        vlm: the tuned model, in evaluation mode.
        prompter: its tokenizer and image processor.
        members: what it is asked, one a data set.
    """

    vlm: ExemplarVLM
    prompter: Prompter
    members: Sequence[Question]

    def responses(self, member: int) -> list[tuple[int, ...]]:
        """Token ids of every answer of a data set."""
        return [self.prompter.response(text) for text, _ in self.members[member].answers]


def describe(config: Config, questions: Sequence[Question], tsm: TSM | None, base_digest: str | None) -> dict[str, Any]:
    """Collect what is saved beside the weights, so that inference does not need the data.

    Args:
        config: of the run.
        questions: what it was asked.
        tsm: the one that it was trained with, if any.
        base_digest: of the VLM's weights before tuning, if it is known.
    """
    table = config.exemplar.table if needs_exemplar(config) else None
    return {
        "tsm": None if tsm is None else weights_digest(tsm),
        "base": config.vlm.path,
        "revision": config.vlm.revision,
        "base_digest": base_digest,
        "exemplar_table": None if table is None else vectors_digest(table),
        "members": [question.description() for question in questions],
    }


def load_tuned(
    run: RunFolder, config: Config, device: str, *, exemplars: ExemplarSource | None, dequantize: bool = False
) -> TunedVLM:
    """Load a finished VLM run; without exemplars its connector may be absent. For `dequantize` see `build_vlm`.

    Raises:
        UsageError: the folder of the base model is not there.
        VitaskError: a file is missing or damaged, or does not fit the run's config or the exemplars.
    """
    _require_base(run, config.vlm.path)
    members = questions_of(run)
    if exemplars:
        require_connector(run.model)
        _check_width(run.model / CONNECTOR, exemplars)
    vlm, prompter = build_vlm(
        config,
        exemplars.feature_dim if exemplars else None,
        build_placement(config.exemplar, exemplars.num_tokens) if exemplars else None,
        dequantize=dequantize,
    )
    _require_same_base(run, config, vlm.base_digest)
    load_weights(vlm, run.model)
    return TunedVLM(vlm.to(device).eval(), prompter, members)


def _require_base(run: RunFolder, path: str) -> None:
    """Raise a `UsageError` that says what to give if the base model is a folder that is not there."""
    try:
        resolve_path(path)
    except UsageError as error:
        raise UsageError(
            f"run={run.path}: its base model is not where the run says ({error}); give its folder, base=<folder>"
        ) from error


def questions_of(run: RunFolder) -> list[Question]:
    """Return what the VLM of a finished run is asked on each data set.

    Raises:
        VitaskError: the description beside its weights is missing or damaged.
    """
    path = run.model / DESCRIPTION
    try:
        return [Question.of(member) for member in read_json(path)["members"]]
    except (KeyError, TypeError) as error:
        raise VitaskError(f"{path}: damaged, or written by another version: {error!r}") from error


def require_connector(folder: Path) -> None:
    """Raise a `VitaskError` if a tuned VLM has no connector to be loaded; a fresh one would answer at random."""
    if not (folder / CONNECTOR).is_file():
        raise VitaskError(f"{folder / CONNECTOR} is missing, so the exemplar has no connector")


def _check_width(connector: Path, exemplars: ExemplarSource) -> None:
    """Raise a `VitaskError` if exemplars are not what a connector takes."""
    try:
        with safe_open(connector, "pt") as file:
            taken = file.get_slice("norm.weight").get_shape()[0]
    except SafetensorError as error:
        raise VitaskError(f"{connector}: damaged: {error}") from error
    if taken != exemplars.feature_dim:
        raise VitaskError(
            f"{connector} takes features of {taken} values, {exemplars.title}'s have {exemplars.feature_dim}: "
            "plug in one of the same backbone, or train the connector with it (stage=ep)"
        )


def tsm_folder(run: RunFolder, config: Config) -> Path:
    """Return where the TSM of a run is: in the run itself, as in a bundle, or beside it, wherever both were moved."""
    inside = config.stage.name == "tsm" or run.tsm.is_dir()
    return run.path if inside else run.path.parent / run_folder(at_stage(config, "tsm")).name


def load_run_tsm(folder: Path, labels: Sequence[str]) -> TSM:
    """Load the frozen TSM of a finished TSM run, checking that it knows the labels.

    Raises:
        VitaskError: the run is not there, is damaged, or was trained on another label set.
    """
    run = RunFolder(folder)
    if not run.finished:
        raise VitaskError(f"{folder}: there is no finished TSM; train it with stage=tsm")
    return load_tsm(run.tsm, {"labels": list(labels)})[0].freeze()


def require_same_tsm(run: RunFolder, tsm: TSM) -> None:
    """Raise a `VitaskError` if a VLM run was trained with another TSM than the one that is in its place now."""
    was, now = read_json(run.model / DESCRIPTION).get("tsm"), weights_digest(tsm)
    if was not in (None, now):
        raise VitaskError(
            f"{run.path}: its TSM was trained again since (sha256 {now[:12]}, was {was[:12]}), so it does not know "
            "these features; train it again with overwrite=true, or put the TSM back"
        )


def _require_same_base(run: RunFolder, config: Config, now: str | None) -> None:
    """Raise a `VitaskError` if a VLM was tuned from other weights than those that are in their place now."""
    was = read_json(run.model / DESCRIPTION).get("base_digest")
    if None not in (was, now) and was != now:
        raise VitaskError(
            f"{run.path}: {config.vlm.path} holds other weights than those that this run tuned (sha256 of a sample "
            f"{now[:12]}, was {was[:12]}); put them back, give vlm.revision, or train again"
        )


def require_head(run: RunFolder, config: Config) -> None:
    """Raise a `UsageError` if a run is that of an encoder that was kept without a head."""
    if config.stage.name == "tsm" and config.tsm.tune == "none":
        raise UsageError(
            f"run={run.path}: tsm.tune=none keeps an encoder without a head, so it has no class probabilities; "
            "ask a VLM that sees its exemplars, or train a head on it with tsm.tune=head"
        )


def known_labels(run: RunFolder, config: Config) -> list[tuple[str, ...]]:
    """Return the label texts of each data set that a finished run answers with."""
    if config.stage.name != "tsm":
        return [tuple(question.labels) for question in questions_of(run)]
    meta = load_tsm(run.tsm)[1]
    return [tuple(meta["labels"][member["start"] : member["stop"]]) for member in meta["members"]]


def pick_device(name: str) -> str:
    """Return a device as torch calls it; `auto` is the GPU if there is one."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def finished_run(path: str, base: str | None = None) -> tuple[RunFolder, Config]:
    """Open a run folder and its config.

    Args:
        path: of the folder.
        base: where the base model of a VLM is, instead of where it was in training.

    Raises:
        UsageError: there is no run, or it has no base model although one is given.
        VitaskError: the run is not finished, or its config is damaged.
    """
    run = RunFolder(Path(path).expanduser())
    config = run.config()
    if not run.finished:
        raise VitaskError(f"run={run.path}: not finished; the command that began it resumes it")
    if base is None:
        return run, config
    if config.stage.name == "tsm":
        raise UsageError(f"base={base}: {run.path} is the run of a TSM, which has no base model; leave it out")
    return run, replace(config, vlm=replace(config.vlm, path=base))
