"""What the model card of an exported run says, gathered from the run folder."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitask.export import plain
from vitask.export.portable import local_base, on_hub, portable
from vitask.export.write import BASE
from vitask.reporting.card import Card, escaped
from vitask.reporting.open_ended import flattened, is_open
from vitask.runs.folder import read_json
from vitask.runs.identity import data_name, is_open_ended, needs_exemplar, term_weights
from vitask.vlm.load import TINY, quantization, resolve_path
from vitask.vlm.originals import how_to_make

if TYPE_CHECKING:
    from vitask.config.schema import Config, ExportConfig
    from vitask.export.check import Verdict
    from vitask.runs.folder import RunFolder

PEFT = {"adapter": "from peft import PeftModel\n", "merged": ""}
SCORED = "import torch\n{}from PIL import Image, ImageOps\nfrom torch.nn.functional import pad\n"
ANSWERED = "{}from PIL import Image, ImageOps\n"
"""What the code of a card imports, for labels and for answers in words."""
PLAIN = """\
import json

{imports}from transformers import AutoModelForImageTextToText, AutoProcessor{more}


{functions}


{folder}
{base}with open(f"{{folder}}/labels.json", encoding="utf-8") as file:
    question = json.load(file)["sets"][0]{which}
model, processor = {call}
image = ImageOps.exif_transpose(Image.open("image.png")).convert("RGB")
print({ask})
"""
BUNDLE = """\
import vitask

{folder}
{base}classifier = vitask.Classifier.from_pretrained(folder{given})
print(classifier.predict(["image.png"]{which}))
"""
BUNDLE_IN_WORDS = """\
import vitask

{folder}
{base}answerer = vitask.Answerer.from_pretrained(folder{given})
print(*answerer.ask(["image.png"], {instruction}))
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
    settings = asdict(portable(config))
    settings["data"]["name"], settings["vlm"]["path"] = data_name(config), base
    modes = ("off", "on") if request.to == "bundle" else ("off",)
    metrics = [read_json(path) for mode in modes if (path := _metrics(run, mode)).is_file()]
    return Card(
        title=f"{data_name(config)}: {config.stage.name}, {request.to}",
        kind=request.to,
        run=run.path.resolve().name,
        base=base,
        base_on_hub=on_hub(config),
        data={**environment["data"], "name": data_name(config)},
        sets=labels["sets"],
        metrics=[flattened(each) if is_open(each) else each for each in metrics],
        config=settings,
        weights=term_weights(config),
        usage=usage(request, config, labels["sets"], target, _instruction(labels["sets"], metrics)),
        notes=_notes(request, config),
        checked=str(verdict),
        versions=environment["versions"],
    )


def usage(
    request: ExportConfig, config: Config, sets: list[dict[str, Any]], target: Path, instruction: str = ""
) -> str:
    """Write the code of the card: the very functions that the check ran, and how they are called.

    Args:
        request: what is exported.
        config: of the run.
        sets: what `labels.json` holds.
        target: where the export will be.
        instruction: an example, for a run that answers in words.
    """
    in_words = is_open_ended(config)
    folder = f'folder = "{target.name}"  # this folder, wherever it is'
    if request.push is not None:
        folder = f'from huggingface_hub import snapshot_download\n\nfolder = snapshot_download("{request.push}")'
    names = ", ".join(each["name"] for each in sets)
    which = f"  # one of {_code(names)}" if len(sets) > 1 else ""
    local = local_base(config) if request.to != "merged" else None
    base = f"base = {_code(local)}  # the folder of the base model\n" if local else ""
    if request.to == "bundle":
        form = BUNDLE_IN_WORDS if in_words else BUNDLE
        chosen = f", set={_code(sets[0]['name'])}" if which else ""
        given = ", base=base" if local else ""
        return form.format(folder=folder, base=base, given=given, instruction=_code(instruction), which=chosen)
    load, call = plain.load_merged, 'load_merged(folder, dtype="auto")'
    if request.to == "adapter":
        load, call = plain.load_adapter, _adapter_call(config)
    functions = [load, plain.shrunk, plain.read_prompt]
    functions += [plain.answer_in_words] if in_words else [plain.token_log_likelihoods, plain.answer_in_labels]
    ask = "answer_in_labels(model, processor, question, image)"
    return PLAIN.format(
        imports=(ANSWERED if in_words else SCORED).format(PEFT[request.to]),
        more="" if request.to == "merged" or config.lora.quantize == "none" else ", BitsAndBytesConfig",
        functions="\n\n\n".join(inspect.getsource(function).strip() for function in functions),
        ask=f"answer_in_words(model, processor, question, image, {_code(instruction)})" if in_words else ask,
        folder=folder,
        base=base,
        which=which,
        call=call,
    )


def adapter_base(config: Config, folder: Path) -> tuple[str, dict[str, Any]]:
    """Return where the base model of an adapter is on this machine, and how it is loaded."""
    options: dict[str, Any] = {"dtype": config.vlm.dtype}
    if config.vlm.revision:
        options["revision"] = config.vlm.revision
    if config.lora.quantize != "none":
        options["quantization_config"] = quantization(resolve_path(config.vlm.path), config.vlm.dtype)
    return (str(folder / BASE) if config.vlm.path == TINY else config.vlm.path), options


def base_name(config: Config) -> str:
    """Name the base model: by its name on the hub, by that of its folder, or as the embedded one."""
    if config.vlm.path == TINY:
        return "the tiny InternVL embedded in vitask"
    return local_base(config) or config.vlm.path


def _adapter_call(config: Config) -> str:
    path, options = adapter_base(config, Path())
    name = f'f"{{folder}}/{BASE}"' if config.vlm.path == TINY else "base" if local_base(config) else _code(path)
    words = "".join(f", {key}={_code(value)}" for key, value in options.items())
    return f"load_adapter(folder, {name}{words})"


def _code(value: Any) -> str:
    """Write a value as Python has it."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # an escape of JSON is no character beyond the BMP to Python
    known = {key: each for key, each in value.to_diff_dict().items() if not key.startswith("_")}
    return f"BitsAndBytesConfig({', '.join(f'{key}={each!r}' for key, each in known.items())})"


def _instruction(sets: list[dict[str, Any]], metrics: list[dict[str, Any]]) -> str:
    """An instruction that a run that answers in words knows."""
    asked = next((name for each in metrics for name in each.get("by_instruction", ())), "What is shown?")
    return sets[0]["instruction"] or asked


def _notes(request: ExportConfig, config: Config) -> list[str]:
    if request.to != "merged":
        return [*_base_notes(config), *(_table_notes(config) if request.to == "bundle" else [])]
    options = json.dumps(config.vlm.image_options)
    how = "in the words that it was tuned on" if is_open_ended(config) else "with the instruction below"
    more = "" if is_open_ended(config) else "; a free answer need not be a label"
    given = f" --mm-processor-kwargs '{options}'" if config.vlm.image_options else ""
    return [
        "A server that loads checkpoints of this family takes it as it is, for one `vllm serve "
        f"FOLDER{given}` (not run by us). Ask it {how}{more}."
    ]


def _base_notes(config: Config) -> list[str]:
    if (name := local_base(config)) is None:
        return []
    made = how_to_make(name)
    notes = [f"The base model, {escaped(name)}, is no part of it: `base` says where its folder is."]
    return [*notes, *([f"That folder: {made}."] if made else [])]


def _table_notes(config: Config) -> list[str]:
    if config.exemplar.table is None or not needs_exemplar(config):
        return []
    return ["Its exemplars stand in a table of vectors that is no part of it, and it knows those alone."]


def _metrics(run: RunFolder, mode: str) -> Path:
    """Where the evaluation on the run's own test images is."""
    return run.path / "eval" / f"test-{mode}" / "metrics.json"
