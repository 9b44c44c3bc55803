"""What the paper states, key by key, and what to say of a run that has another value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """A value of the paper.

    Attributes:
        key: dotted, in the configuration.
        paper: the paper's value.
        text: what to say of another one; `{}` stands for it, `{percent}` for a share.
        needs: what the run must have for the value to play a part: a loss term, `exemplar` or `tsm`.
        unless: a condition, key and value, under which it plays none.
    """

    key: str
    paper: Any
    text: str
    needs: str = ""
    unless: tuple[str, Any] | None = None

    def of(self, value: Any) -> str:
        """Say it of a value."""
        percent = f"{100 * value:g}%" if "{percent}" in self.text else ""
        return re.sub(r"\b1 epochs", "1 epoch", self.text.format(value, percent=percent))


DATA = (
    Rule("data.label_noise", 0, "{percent} of the training labels are replaced by another label."),
    Rule("data.imbalance", 1, "The training split has a long tail: its smallest class has {percent} of the largest."),
    Rule("data.train_fraction", 1, "Only {percent} of the training split is used."),
    Rule("data.shift.noise", 0, "The images of every split carry Gaussian noise of {:g}."),
    Rule("data.shift.contrast", 1, "The contrast of the images of every split is multiplied by {:g}."),
    Rule("data.shift.brightness", 1, "The brightness of the images of every split is multiplied by {:g}."),
    Rule("data.shift.crop", 1, "The images of every split are cropped to {percent} of each side."),
    Rule("data.shift.blur", 0, "The images of every split are blurred by {:g} pixels."),
    Rule("data.label_texts", None, "The label texts are one's own (data.label_texts)."),
    Rule("data.label_file", None, "The label texts are one's own ({})."),
    Rule("data.raw_labels", False, "The label texts are the data's own names, not the words that vitask ships."),
    Rule("data.corrupt", "fail", "Images that do not decode are left out."),
    Rule("data.instruction.complete", True, "The instruction does not list the labels (incomplete, as in Figure 4)."),
    Rule(
        "data.instruction.template",
        "Analyze the given {modality} image. The possible diagnoses are:{labels}.",
        "The instruction is “{}”; the paper's speaks of possible diagnoses.",
        unless=("data.instruction.complete", False),
    ),
    Rule(
        "data.instruction.incomplete_template",
        "Analyze the given {modality} image.",
        "The incomplete instruction is “{}”, not the paper's.",
        unless=("data.instruction.complete", True),
    ),
    Rule("data.instruction.hint", False, "The TSM's prediction is written into the instruction, a control."),
    Rule("data.instruction.hint_template", "", "The hint reads “{}”.", unless=("data.instruction.hint", False)),
)
TSM = (
    Rule("tsm.tune", "all", "The TSM is not tuned as a whole, as in the paper (tsm.tune: {}).", "tsm"),
    Rule("tsm.pretrained", True, "The TSM does not start from timm's pre-trained weights.", "tsm"),
    Rule("tsm.optim.epochs", 30, "The TSM trains for {} epochs instead of 30.", "tsm", ("tsm.tune", "none")),
    Rule("tsm.balanced", False, "The TSM's loss weighs classes by their rarity.", "tsm"),
    Rule("tsm.optim.sampling.sets", 1, "The TSM's data sets are drawn by size to the power {:g}.", "tsm"),
    Rule("tsm.optim.sampling.classes", 1, "The TSM's classes are drawn by size to the power {:g}.", "tsm"),
    Rule("tsm.optim.sampling.one_set_a_step", False, "Each of the TSM's steps holds one data set.", "tsm"),
)
VLM = (
    Rule("lora.tune", "adapter", "The language model's own weights are tuned; in the paper LoRA is."),
    Rule("lora.dora", False, "The adapter is DoRA instead of LoRA.", unless=("lora.tune", "all")),
    Rule("lora.rslora", False, "LoRA is scaled by alpha over the root of its rank.", unless=("lora.tune", "all")),
    Rule("lora.quantize", "none", "The language model is held in 4 bits ({}) under LoRA.", unless=("lora.tune", "all")),
    Rule("vlm.train_tower", False, "The vision tower is trained, as in the paper's VLM*; in VITask it is frozen."),
    Rule("vlm.train_projector", False, "The VLM's own projector is trained; in the paper it is frozen."),
    Rule(
        "exemplar.features",
        "cls",
        "The exemplar is every patch embedding of the TSM (EP_all); the paper's default is CLS.",
        "exemplar",
        ("exemplar.position", "replace_image"),
    ),
    Rule("exemplar.table", None, "The exemplars are the vectors of {} instead of the TSM's features.", "exemplar"),
    Rule("exemplar.content", "image", "The exemplar is not the image's own, a control: {}.", "exemplar"),
    Rule("objective.vanilla", 1, "L_Van has the weight {:g} instead of 1.", "vanilla"),
    Rule("objective.ep", 1, "L_EP has the weight {:g} instead of 1.", "ep"),
)
RDA = (
    Rule("objective.rda.teacher", "exemplar", "RDA's teacher is the labels, smoothed, not the VLM with EP.", "rda"),
    Rule("objective.rda.mask", "none", "RDA acts only on tokens at which the teacher is right.", "rda"),
    Rule("objective.rda.temperature", 1, "RDA's distributions have the temperature {:g} instead of 1.", "rda"),
    Rule("objective.rda.direction", "student_first", "RDA's divergence has the teacher first, not the student.", "rda"),
    Rule(
        "objective.rda.detach_teacher",
        True,
        "RDA's teacher is not detached (the paper's RDA*).",
        "rda",
        ("objective.rda.teacher", "labels"),
    ),
    Rule("objective.rda.ramp", 0, "α grows over the first {percent} of training instead of being constant.", "rda"),
)
CRT = (
    Rule("objective.crt.tokens", "all", "CRT acts only where labels still differ (branching tokens).", "crt"),
    Rule(
        "objective.crt.negatives",
        "dataset",
        "CRT's negative images come from the same optimiser step, a random part of the training set.",
        "crt",
    ),
    Rule("objective.crt.disjoint", False, "CRT's negative images share no label with the image.", "crt"),
    Rule(
        "objective.crt.max_overlap",
        None,
        "The response of CRT's negative image shares a token F1 below {:g} with the image's own.",
        "crt",
    ),
    Rule("objective.crt.ramp", 0, "β grows over the first {percent} of training instead of being constant.", "crt"),
)
OPTIM = (
    Rule("optim.epochs", 1, "The stage takes {} epochs instead of one."),
    Rule("optim.sampling.sets", 1, "Data sets are drawn by size to the power {:g}, not as they are."),
    Rule("optim.sampling.classes", 1, "Classes are drawn by size to the power {:g}, not as they are."),
    Rule("optim.sampling.one_set_a_step", False, "Each optimiser step holds one data set."),
)
OTHER_METHOD = {
    "data.instruction.complete", "data.instruction.hint", "vlm.train_tower", "vlm.train_projector", "exemplar.features",
    "exemplar.table", "exemplar.content", "objective.rda.teacher", "objective.rda.detach_teacher",
}  # fmt: skip
"""With another value of these a run is none of the methods of the paper's tables."""


def broken(rules: Iterable[Rule], config: Mapping[str, Any], has: set[str]) -> Iterator[str]:
    """Say where a configuration has other values than the paper.

    Args:
        rules: the paper's values.
        config: the resolved configuration of a run.
        has: the run's loss terms, and `exemplar` and `tsm` where it has them.

    Example:
        >>> list(broken(OPTIM, config, {"vanilla"}))
        ['The stage takes 3 epochs instead of one.']
    """
    for rule in rules:
        value = value_of(config, rule.key)
        excused = rule.unless is not None and value_of(config, rule.unless[0]) == rule.unless[1]
        if value != rule.paper and not excused and (not rule.needs or rule.needs in has):
            yield rule.of(value)


def value_of(config: Mapping[str, Any], key: str) -> Any:
    """Look up a dotted key.

    Example:
        >>> value_of({"data": {"shift": {"blur": 2}}}, "data.shift.blur")
        2
    """
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value
