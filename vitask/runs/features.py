"""The training split's prompts, and what a frozen vision tower says of its images, computed once and kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import send_to_device

from vitask.runs.folder import say
from vitask.vlm.image_cache import ImageFeatures, cached_image_features, image_cache_key
from vitask.vlm.prompts import PromptTable

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from vitask.config.schema import Config
    from vitask.data import TaskData
    from vitask.vlm.model import ExemplarVLM
    from vitask.vlm.prompts import Prompt, Prompter


def prompts_and_features(
    vlm: ExemplarVLM,
    prompter: Prompter,
    task: TaskData,
    asked: Sequence[str],
    config: Config,
    accelerator: Accelerator,
) -> tuple[PromptTable, ImageFeatures | None]:
    """Return the training split's prompts, and its image features if they are to be kept on disk and fit there.

    `asked` holds the instruction of each image.
    """
    prompts = PromptTable(task.splits["train"]["image"], prompter, asked)
    features = image_feature_table(vlm, prompts, task, config, accelerator) if config.vlm.feature_cache_gb else None
    if features is None:
        return prompts, None
    return PromptTable(prompts.images, prompter, asked, with_inputs=False), features


def image_feature_table(
    vlm: ExemplarVLM, prompts: PromptTable, task: TaskData, config: Config, accelerator: Accelerator
) -> ImageFeatures | None:
    """Return what the frozen vision tower gives for every training image; None when it trains, or they do not fit."""
    if config.vlm.train_tower or config.vlm.train_projector:
        say("vlm.feature_cache_gb: the image encoder trains, so its features are computed in every step")
        return None
    vlm.to(accelerator.device).eval()

    def encode(inputs: Sequence[Any]) -> Tensor:
        images = send_to_device(vlm.family.stack_images(inputs), accelerator.device)
        with accelerator.autocast():
            return vlm.encode_images(images)

    with torch.inference_mode():
        sample = encode([prompts[0].images])
    key = image_cache_key(vlm, prompts.prompter, data_fingerprint=task.fingerprint, split="train")
    return cached_image_features(
        encode,
        _Each(prompts, lambda prompt: prompt.images),
        _Each(prompts, lambda prompt: prompt.image_tokens),
        key={**key, "precision": config.launch.precision},
        shape=tuple(sample.shape[1:]),
        dtype=sample.dtype,
        cache_dir=f"{config.cache}/image-features",
        budget_gb=config.vlm.feature_cache_gb,
        workers=config.launch.workers,
        say=say,
    )


class _Each(Sequence):
    """Something of every prompt, looked up when it is asked for."""

    def __init__(self, prompts: PromptTable, read: Callable[[Prompt], Any]) -> None:
        self.prompts, self.read = prompts, read

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: int) -> Any:
        return self.read(self.prompts[index])
