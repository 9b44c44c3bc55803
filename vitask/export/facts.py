"""What the model card of an exported run says, gathered from the run folder."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitask.export import plain
from vitask.export.write import BASE
from vitask.reporting.card import HUB_NAME, Card
from vitask.runs.folder import read_json
from vitask.runs.identity import data_name, needs_exemplar, term_weights
from vitask.vlm.load import TINY, quantization, resolve_path

if TYPE_CHECKING:
    from vitask.config.schema import Config, ExportConfig
    from vitask.export.check import Verdict
    from vitask.runs.folder import RunFolder

IMPORTS = {"adapter": "from peft import PeftModel\n", "merged": ""}
PLAIN = """\
import json

import torch
{imports}from PIL import Image
from torch.nn.functional import pad
from transformers import AutoModelForImageTextToText, AutoProcessor{more}


{load}


{answer}


{folder}
with open(f"{{folder}}/labels.json", encoding="utf-8") as file:
    question = json.load(file)["sets"][0]{which}
model, processor = {call}
image = Image.open("image.png").convert("RGB")
print(label_probabilities(model, processor, question, image))
"""
BUNDLE = """\
import vitask

{folder}
classifier = vitask.Classifier.from_pretrained(folder)
print(classifier.predict(["image.png"]{which}))
"""


def gather(
    request: ExportConfig, run: RunFolder, config: Config, labels: Mapping[str, Any], target: Path, verdict: Verdict
) -> Card:
    """Gather a card's facts; paths of this machine are left out.

    Args:
        request: what is exported.
        run: the run.
        config: its configuration.
        labels: what `labels.json` holds.
        target: where the export will be.
        verdict: what its check found.
    """
    environment = run.environment()
    base = base_name(config)
    settings = asdict(config)
    settings["data"]["name"], settings["vlm"]["path"] = data_name(config), base
    modes = ("off", "on") if request.to == "bundle" else ("off",)
    return Card(
        title=f"{data_name(config)}: {config.stage.name}, {request.to}",
        kind=request.to,
        run=run.path.resolve().name,
        base=base,
        base_on_hub=on_hub(config),
        data={**environment["data"], "name": data_name(config)},
        sets=labels["sets"],
        metrics=[read_json(path) for mode in modes if (path := _metrics(run, mode)).is_file()],
        config=settings,
        weights=term_weights(config),
        usage=usage(request, config, labels["sets"], target),
        notes=_notes(request, config),
        checked=str(verdict),
        versions=environment["versions"],
    )


def usage(request: ExportConfig, config: Config, sets: list[dict[str, Any]], target: Path) -> str:
    """Write the code of the card: the very functions that the check ran, and how they are called."""
    folder = f'folder = "{target.name}"  # this folder, wherever it is'
    if request.push is not None:
        folder = f'from huggingface_hub import snapshot_download\n\nfolder = snapshot_download("{request.push}")'
    names = ", ".join(each["name"] for each in sets)
    which = f"  # one of {json.dumps(names)}" if len(sets) > 1 else ""
    if request.to == "bundle":
        return BUNDLE.format(folder=folder, which=f", set={json.dumps(sets[0]['name'])}" if which else "")
    load, call = plain.load_merged, 'load_merged(folder, dtype="auto")'
    if request.to == "adapter":
        load, call = plain.load_adapter, _adapter_call(config)
    return PLAIN.format(
        imports=IMPORTS[request.to],
        more="" if request.to == "merged" or config.lora.quantize == "none" else ", BitsAndBytesConfig",
        load=inspect.getsource(load).strip(),
        answer=inspect.getsource(plain.label_probabilities).strip(),
        folder=folder,
        which=which,
        call=call,
    )


def adapter_base(config: Config, folder: Path) -> tuple[str, dict[str, Any]]:
    """Return where the base model of an adapter is, and how it is loaded."""
    options: dict[str, Any] = {"dtype": config.vlm.dtype}
    if config.vlm.revision:
        options["revision"] = config.vlm.revision
    if config.lora.quantize != "none":
        options["quantization_config"] = quantization(resolve_path(config.vlm.path), config.vlm.dtype)
    return (str(folder / BASE) if config.vlm.path == TINY else config.vlm.path), options


def on_hub(config: Config) -> bool:
    """Say whether the base model goes by a name on the hub."""
    path = config.vlm.path
    return HUB_NAME.fullmatch(path) is not None and not Path(path).expanduser().exists()


def base_name(config: Config) -> str:
    """Name the base model: by its name on the hub, by that of its folder, or as the embedded one."""
    if config.vlm.path == TINY:
        return "the tiny InternVL embedded in vitask"
    return config.vlm.path if on_hub(config) else Path(config.vlm.path).resolve().name


def _adapter_call(config: Config) -> str:
    base, options = adapter_base(config, Path())
    name = f'f"{{folder}}/{BASE}"' if config.vlm.path == TINY else json.dumps(base)
    words = "".join(f", {key}={_code(value)}" for key, value in options.items())
    return f"load_adapter(folder, {name}{words})"


def _code(value: Any) -> str:
    """Write a keyword's value as Python has it."""
    if isinstance(value, str):
        return json.dumps(value)
    known = {key: each for key, each in value.to_diff_dict().items() if not key.startswith("_")}
    return f"BitsAndBytesConfig({', '.join(f'{key}={each!r}' for key, each in known.items())})"


def _notes(request: ExportConfig, config: Config) -> list[str]:
    if request.to == "bundle" and config.exemplar.table is not None and needs_exemplar(config):
        return ["Its exemplars stand in a table of vectors that is no part of it, and it knows those alone."]
    if request.to != "merged":
        return []
    options = json.dumps(config.vlm.image_options)
    given = f" --mm-processor-kwargs '{options}'" if config.vlm.image_options else ""
    return [
        "A server that loads checkpoints of this family takes it as it is, for one `vllm serve "
        f"FOLDER{given}` (not run by us). Ask it with the instruction below; a free answer need not be a label."
    ]


def _metrics(run: RunFolder, mode: str) -> Path:
    """Where the evaluation on the run's own test images is."""
    return run.path / "eval" / f"test-{mode}" / "metrics.json"
