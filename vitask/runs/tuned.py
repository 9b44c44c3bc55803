"""A finished VLM run, loaded for inference: the model, its prompter, its TSM, and what it was tuned to answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from vitask.config.build import build_placement, build_vlm
from vitask.data import members_of
from vitask.errors import VitaskError
from vitask.runs.folder import RunFolder, read_json
from vitask.runs.identity import at_stage, run_folder
from vitask.tsm import load_tsm
from vitask.vlm.saving import CONNECTOR, DESCRIPTION, load_weights

if TYPE_CHECKING:
    from vitask.config.schema import Config
    from vitask.data import TaskData
    from vitask.tsm import TSM
    from vitask.vlm.model import ExemplarVLM
    from vitask.vlm.prompts import Prompter


@dataclass(frozen=True)
class Question:
    """What a VLM was tuned to answer on one data set.

    Attributes:
        name: of the data set.
        labels: its label texts.
        answers: the closed set of responses, each with the labels that it stands for.
        instruction: the rendered instruction.
    """

    name: str
    labels: Sequence[str]
    answers: Sequence[tuple[str, tuple[int, ...]]]
    instruction: str


@dataclass(frozen=True)
class TunedVLM:
    """What inference needs of a VLM run.

    Attributes:
        vlm: the tuned model, in evaluation mode.
        prompter: its tokenizer and image processor.
        tsm: the TSM that gives the exemplars; `None` where they are not wanted, or the run never saw any.
        members: what it answers, one a data set.
    """

    vlm: ExemplarVLM
    prompter: Prompter
    tsm: TSM | None
    members: Sequence[Question]

    def responses(self, member: int) -> list[tuple[int, ...]]:
        """Token ids of every answer of a data set."""
        return [self.prompter.response(text) for text, _ in self.members[member].answers]


def describe(config: Config, task: TaskData, instructions: Sequence[str]) -> dict[str, Any]:
    """Collect what is saved beside the weights, so that inference does not need the data."""
    return {
        "base": config.vlm.path,
        "revision": config.vlm.revision,
        "members": [
            {
                "name": member.name,
                "labels": list(member.labels),
                "multi_label": member.multi_label,
                "answers": [{"text": a.text, "labels": list(a.labels)} for a in member.answers[: member.candidates]],
                "instruction": instruction,
            }
            for member, instruction in zip(members_of(task), instructions, strict=True)
        ],
    }


def load_tuned(run: RunFolder, config: Config, device: str, *, tsm: TSM | None) -> TunedVLM:
    """Load a finished VLM run; without a TSM it answers without the exemplar, and its connector may be absent.

    Raises:
        VitaskError: a file is missing or damaged, or does not fit the run's config or the TSM.
    """
    members = read_json(run.model / DESCRIPTION)["members"]
    if tsm:
        require_connector(run.model)
        _check_width(run.model / CONNECTOR, tsm.feature_dim(config.exemplar.features))
    vlm, prompter = build_vlm(
        config,
        tsm.feature_dim(config.exemplar.features) if tsm else None,
        build_placement(config.exemplar, tsm) if tsm else None,
    )
    load_weights(vlm, run.model)
    return TunedVLM(
        vlm=vlm.to(device).eval(),
        prompter=prompter,
        tsm=tsm.to(device) if tsm else None,
        members=[
            Question(
                name=member["name"],
                labels=member["labels"],
                answers=[(answer["text"], tuple(answer["labels"])) for answer in member["answers"]],
                instruction=member["instruction"],
            )
            for member in members
        ],
    )


def require_connector(folder: Path) -> None:
    """Raise a `VitaskError` if a tuned VLM has no connector to be loaded; a fresh one would answer at random."""
    if not (folder / CONNECTOR).is_file():
        raise VitaskError(f"{folder / CONNECTOR} is missing, so the exemplar has no connector")


def _check_width(connector: Path, width: int) -> None:
    """Raise a `VitaskError` if a TSM's features are not what a connector takes."""
    try:
        with safe_open(connector, "pt") as file:
            taken = file.get_slice("norm.weight").get_shape()[0]
    except SafetensorError as error:
        raise VitaskError(f"{connector}: damaged: {error}") from error
    if taken != width:
        raise VitaskError(
            f"{connector} takes features of {taken} values, the TSM's have {width}: "
            "plug in one of the same backbone, or train the connector with it (stage=ep)"
        )


def tsm_folder(run: RunFolder, config: Config) -> Path:
    """Return where the TSM of a run is: the run itself, or a folder beside it, wherever both were moved."""
    return run.path if config.stage.name == "tsm" else run.path.parent / run_folder(at_stage(config, "tsm")).name


def load_run_tsm(folder: Path, labels: Sequence[str]) -> TSM:
    """Load the frozen TSM of a finished TSM run, checking that it knows the labels.

    Raises:
        VitaskError: the run is not there, is damaged, or was trained on another label set.
    """
    run = RunFolder(folder)
    if not run.finished:
        raise VitaskError(f"{folder}: there is no finished TSM; train it with stage=tsm")
    return load_tsm(run.tsm, {"labels": list(labels)})[0].freeze()


def known_labels(run: RunFolder, config: Config) -> list[tuple[str, ...]]:
    """Return the label texts of each data set that a finished run answers with."""
    if config.stage.name != "tsm":
        return [tuple(member["labels"]) for member in read_json(run.model / DESCRIPTION)["members"]]
    meta = load_tsm(run.tsm)[1]
    return [tuple(meta["labels"][member["start"] : member["stop"]]) for member in meta["members"]]


def pick_device(name: str) -> str:
    """Return the device of `auto` or `cpu`."""
    return "cuda" if name == "auto" and torch.cuda.is_available() else "cpu"


def finished_run(path: str) -> tuple[RunFolder, Config]:
    """Open a run folder and its config.

    Raises:
        UsageError: there is no run.
        VitaskError: the run is not finished, or its config is damaged.
    """
    run = RunFolder(Path(path).expanduser())
    config = run.config()
    if not run.finished:
        raise VitaskError(f"run={run.path}: not finished; the command that began it resumes it")
    return run, config
