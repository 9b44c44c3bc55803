"""A finished VLM run, loaded for inference: the model, its prompter, its TSM, and what it was tuned to answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vitask.config.build import build_placement, build_vlm
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
class TunedVLM:
    """What inference needs of a VLM run.

    Attributes:
        vlm: the tuned model, in evaluation mode.
        prompter: its tokenizer and image processor.
        tsm: the TSM that gives the exemplars; `None` where they are not wanted, or the run never saw any.
        answers: the closed set of responses, each with the labels that it stands for.
        labels: the label texts.
        instruction: the rendered instruction.
    """

    vlm: ExemplarVLM
    prompter: Prompter
    tsm: TSM | None
    answers: Sequence[tuple[str, tuple[int, ...]]]
    labels: Sequence[str]
    instruction: str

    @property
    def responses(self) -> list[tuple[int, ...]]:
        """Token ids of every answer."""
        return [self.prompter.response(text) for text, _ in self.answers]


def describe(config: Config, task: TaskData, instruction: str) -> dict[str, Any]:
    """Collect what is saved beside the weights, so that inference does not need the data."""
    return {
        "base": config.vlm.path,
        "revision": config.vlm.revision,
        "labels": list(task.labels),
        "multi_label": task.multi_label,
        "answers": [{"text": a.text, "labels": list(a.labels)} for a in task.answers[: task.candidates]],
        "instruction": instruction,
    }


def load_tuned(run: RunFolder, config: Config, device: str, *, with_exemplar: bool) -> TunedVLM:
    """Load a finished VLM run; without the exemplar, its TSM and connector are not needed and may be absent.

    Raises:
        VitaskError: a file is missing or damaged, or does not fit the run's config.
    """
    description = read_json(run.model / DESCRIPTION)
    tsm = load_run_tsm(tsm_folder(run, config), description["labels"]) if with_exemplar else None
    vlm, prompter = build_vlm(
        config,
        tsm.feature_dim(config.exemplar.features) if tsm else None,
        build_placement(config.exemplar, tsm) if tsm else None,
    )
    if with_exemplar:
        require_connector(run.model)
    load_weights(vlm, run.model)
    return TunedVLM(
        vlm=vlm.to(device).eval(),
        prompter=prompter,
        tsm=tsm.to(device) if tsm else None,
        answers=[(a["text"], tuple(a["labels"])) for a in description["answers"]],
        labels=description["labels"],
        instruction=description["instruction"],
    )


def require_connector(folder: Path) -> None:
    """Raise a `VitaskError` if a tuned VLM has no connector to be loaded; a fresh one would answer at random."""
    if not (folder / CONNECTOR).is_file():
        raise VitaskError(f"{folder / CONNECTOR} is missing, so the exemplar has no connector")


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
