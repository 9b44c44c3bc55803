"""What the page asks of a run: every model's label probabilities for an image, answers in a talk, images to try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import torch

from vitask.config.build import build_task
from vitask.config.schema import PredictConfig
from vitask.data import row_ranges, shrunk, upright_rgb
from vitask.errors import UsageError, VitaskError
from vitask.runs.exemplars import file_set
from vitask.runs.folder import RunFolder
from vitask.runs.identity import is_head, is_open_ended, needs_exemplar
from vitask.runs.predictor import TSMPredictor, VLMPredictor
from vitask.runs.tuned import finished_run, tsm_folder

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import PreTrainedModel

    from vitask.config.schema import DemoUIConfig

TSM, WITHOUT, WITH = "TSM", "VLM without exemplar", "VLM with exemplar"
LONGEST = 128
"""New tokens at which an answer is cut."""


@dataclass(frozen=True)
class Example:
    """An image of the test split.

    Attributes:
        image: RGB.
        answer: the right one.
        number: of its data set.
        instruction: what is asked, where every row has its own question.
    """

    image: Image
    answer: str
    number: int
    instruction: str = ""


class Desk:
    """A finished run and its TSM, asked by the page; calls from several threads take turns.

    Args:
        request: the run, and where it computes.

    Attributes:
        title: the run in words.
        names: the data sets that it knows.
        columns: who answers: the TSM, the VLM without and with exemplar, those of them that can.
        notes: why one of them cannot, a line each.
        talks: whether the VLM answers in words.

    Raises:
        UsageError: there is no run, or it is that of a TSM.
        VitaskError: the run is not finished, or a file is missing or damaged.
    """

    def __init__(self, request: DemoUIConfig) -> None:
        self.run, self.config = finished_run(request.run, request.base)
        if self.config.stage.name == "tsm":
            raise UsageError(f"run={request.run}: the run of a TSM; give that of a VLM, and its TSM comes along")
        self.title = f"{self.run.path.resolve().name} on {self.config.data.name or self.run.path.resolve().parent.name}"
        self.notes: list[str] = []
        self.vlm = self._open_vlm(request)
        self.tsm = self._open_tsm(request)
        self.names = self.vlm.names
        self.talks = not is_head(self.config)
        able = {TSM: self.tsm is not None, WITHOUT: True, WITH: self.vlm.sees_exemplar}
        self.columns = [] if is_open_ended(self.config) else [title for title, present in able.items() if present]
        self._turn = Lock()

    def answers(self, image: Image, number: int = 0) -> dict[str, dict[str, float]]:
        """Return the label probabilities of each column, for an image that is like those of a data set."""
        prefix = f"{self.names[number]}/" if len(self.names) > 1 else ""
        shown = file_set([Path("<image>")], [upright_rgb(image)], prefix)
        found = {}
        with self._turn:
            for title in self.columns:
                predictor = self.tsm if title == TSM and self.tsm else self.vlm
                said = predictor.answer(shown, number, exemplar=title == WITH, batch_size=1)
                found[title] = dict(zip(said.labels, said.probabilities[0].tolist(), strict=True))
        return found

    @torch.no_grad()
    def reply(self, image: Image, turns: Sequence[Mapping[str, str]]) -> str:
        """Answer the last turn of a talk about an image, greedily and without exemplar.

        Args:
            image: which the talk is about.
            turns: each with a `role`, user or assistant, and its `content`, the user's first.

        Raises:
            UsageError: a turn holds the placeholder of an image, or the talk is longer than the VLM reads.
        """
        prompter, model = self.vlm.tuned.prompter, self.vlm.tuned.vlm.base
        for turn in turns:
            prompter.require_plain(turn["content"])
        messages = [{"role": t["role"], "content": [{"type": "text", "text": t["content"]}]} for t in turns]
        messages[0]["content"].insert(0, {"type": "image", "image": shrunk(upright_rgb(image), self.vlm.sizes[0])})
        with self._turn:
            inputs = prompter.processor.apply_chat_template(
                messages,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                processor_kwargs=dict(prompter.image_options),
            ).to(model.device, model.dtype)
            _require_room(model, inputs["input_ids"].shape[1])
            ids = model.generate(**inputs, max_new_tokens=LONGEST, do_sample=False, pad_token_id=prompter.pad_id)
        return prompter.decode(ids[0, inputs["input_ids"].shape[1] :].tolist())

    def examples(self, count: int) -> list[Example]:
        """Draw images evenly from the test split; none, and a note, if the data is gone or has changed."""
        if not count:
            return []
        try:
            task = build_task(self.config.data, self.config.seed, self.config.cache)
            self.run.check_data(task)
        except (VitaskError, OSError) as error:
            self.notes.append(f"There are no images to click: {error}")
            return []
        split, drawn = task.splits["test"], []
        for number, rows in enumerate(row_ranges(task, "test")):
            each = min(len(rows), max(1, count // len(self.names)))
            for row in np.linspace(rows.start, rows.stop - 1, each).round().astype(int).tolist():
                answer = task.answers[split["answer"][row]].text
                instruction = split["instruction"][row] if task.open_ended else ""
                drawn.append(Example(split["image"][row].convert("RGB"), answer, number, instruction))
        return drawn

    def _open_vlm(self, request: DemoUIConfig) -> VLMPredictor:
        """Load the VLM with its exemplars, or without them where they cannot be had for a new image."""
        config = self.config
        if needs_exemplar(config) and config.exemplar.table is None and config.exemplar.content != "shuffled":
            try:
                return VLMPredictor(self.run, config, _asked(request, "on"))
            except VitaskError as error:
                self.notes.append(f"There is no exemplar: {error}")
        return VLMPredictor(self.run, config, _asked(request, "off"))

    def _open_tsm(self, request: DemoUIConfig) -> TSMPredictor | None:
        """Load the TSM that lies in or beside the run, if there is one that names the same labels."""
        run = RunFolder(tsm_folder(self.run, self.config))
        if self.config.tsm.tune == "none" or not run.finished:
            return None
        try:
            tsm = TSMPredictor(run, self.config, _asked(request, "off"))
        except VitaskError as error:
            self.notes.append(f"The TSM cannot be asked: {error}")
            return None
        same = tsm.names == self.vlm.names and all(tsm.labels(n) == self.vlm.labels(n) for n in range(len(tsm.names)))
        return tsm if same else None


def _require_room(model: PreTrainedModel, tokens: int) -> None:
    """Raise a `UsageError` if a prompt and its answer take more positions than the decoder was made for."""
    positions = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if positions is not None and tokens + LONGEST > positions:
        raise UsageError(
            f"the talk is {tokens} tokens long with its image, and this VLM reads {positions}, {LONGEST} of them its "
            "answer; shorten what you ask, or choose an image to begin anew"
        )


def _asked(request: DemoUIConfig, exemplar: str) -> PredictConfig:
    return PredictConfig(
        run=request.run, exemplar=exemplar, exemplar_table=None, set=None, batch_size=1, device=request.device
    )
