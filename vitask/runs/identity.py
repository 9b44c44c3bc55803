"""What identifies a run: everything that its outcome depends on, hashed into the name of its folder.

Stages find each other, sweeps and killed runs resume, and ranks agree, because the folder follows from the settings.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitask.config.build import data_configs
from vitask.config.compose import load_stage
from vitask.data import vectors_digest

if TYPE_CHECKING:
    from vitask.config.schema import Config

WEIGHTS = {
    "vanilla": "vanilla",
    "ep": "ep",
    "rda": "alpha",
    "crt": "beta",
    "ranking": "ranking",
    "csa": "csa",
    "image_ranking": "image_ranking",
}
"""The config key of each term's weight."""
CLOSED_SET = ("ranking", "csa", "image_ranking")
"""The terms that take the options of `objective.closed_set`."""


def term_weights(config: Config) -> dict[str, float]:
    """Return the weight of each term that the stage lists; the others are 0."""
    return {
        term: getattr(config.objective, key) if term in config.stage.terms else 0.0 for term, key in WEIGHTS.items()
    }


def needs_exemplar(config: Config) -> bool:
    """Say whether the run's VLM sees exemplars, so that it needs a connector, and something that gives them."""
    weights = term_weights(config)
    return weights["ep"] != 0 or (weights["rda"] != 0 and config.objective.rda.teacher == "exemplar")


def exemplar_from_tsm(config: Config) -> bool:
    """Say whether the exemplars are the TSM's: not a table's, and not the same for every image."""
    return needs_exemplar(config) and config.exemplar.table is None and config.exemplar.content != "constant"


def with_hint(config: Config) -> bool:
    """Say whether the TSM's prediction is written into the instruction of any data set."""
    return any(data.instruction.hint for data in data_configs(config.data))


def needs_tsm(config: Config) -> bool:
    """Say whether training needs the TSM: for exemplars, for hints, or as the teacher of closed-set alignment."""
    return exemplar_from_tsm(config) or with_hint(config) or term_weights(config)["csa"] != 0


def is_open_ended(config: Config) -> bool:
    """Say whether the data has responses in words rather than labels."""
    return config.data.source == "instructions"


def is_head(config: Config) -> bool:
    """Say whether the stage tunes a linear head on the VLM, which then gives no answers."""
    return config.stage.name == "head"


def at_stage(config: Config, stage: str) -> Config:
    """Return the same configuration at another stage."""
    return replace(config, stage=load_stage(stage))


def identity(config: Config) -> dict[str, Any]:
    """Collect what the outcome of a run depends on, earlier stages included, and nothing else."""
    data = _data_identity(config)
    common = {"seed": config.seed, "precision": config.launch.precision, "data": data}
    if config.stage.name == "tsm":
        del common["data"]["instruction"]
        tsm = asdict(config.tsm)
        untuned = {key: tsm[key] for key in ("tune", "name", "pretrained", "checkpoint", "model_args", "input")}
        return {**common, "tsm": untuned if config.tsm.tune == "none" else tsm}
    parts: dict[str, Any] = {
        **common,
        "vlm": _vlm_identity(config),
        "lora": _lora_identity(config),
        "optim": asdict(config.optim),
        **({} if is_head(config) else _objective_identity(config)),
    }
    if needs_tsm(config):
        parts["tsm"] = identity(at_stage(config, "tsm"))
    if needs_exemplar(config):
        parts |= {
            "exemplar": _exemplar_identity(config),
            "connector": asdict(config.connector),
            "train_connector": config.stage.train_connector,
        }
    if config.stage.init_from:
        parts["init"] = identity(at_stage(config, config.stage.init_from))
    return parts


def _data_identity(config: Config) -> dict[str, Any]:
    """The data's options; columns of an open-ended table count there alone."""
    data = {key: value for key, value in asdict(config.data).items() if key != "download"}
    if not is_open_ended(config):
        data["columns"] = {k: v for k, v in data["columns"].items() if k not in ("instruction", "response")}
    return data


def _vlm_identity(config: Config) -> dict[str, Any]:
    """What the VLM depends on; options that came later count where they are used."""
    vlm = asdict(config.vlm)
    del vlm["feature_cache_gb"]
    if not vlm["train_tower"] or vlm["tower_lr_ratio"] == 1:
        del vlm["tower_lr_ratio"]
    return vlm


def _lora_identity(config: Config) -> dict[str, Any]:
    """What the tuning of the language model depends on; options that came later count where they are used."""
    if config.lora.tune == "all":
        return {"tune": "all"}
    unused = {"tune": "adapter", "dora": False, "rslora": False, "quantize": "none"}
    return {key: value for key, value in asdict(config.lora).items() if key not in unused or value != unused[key]}


def _objective_identity(config: Config) -> dict[str, Any]:
    """What the loss depends on: the terms with a weight and their options."""
    weights, objective = term_weights(config), asdict(config.objective)
    if not is_open_ended(config):
        del objective["crt"]["max_overlap"]
    del objective["rda"]["detach_teacher" if objective["rda"]["teacher"] == "labels" else "smoothing"]
    return {
        "weights": {term: weight for term, weight in weights.items() if weight},
        "reduction": config.objective.reduction,
        "step": config.step,
        **{term: objective[term] for term in ("rda", "crt") if weights[term]},
        **({"closed_set": objective["closed_set"]} if any(weights[term] for term in CLOSED_SET) else {}),
    }


def _exemplar_identity(config: Config) -> dict[str, Any]:
    """What exemplars depend on beside the TSM's weights: the content of a table, wherever it is, or a TSM's shape."""
    parts = asdict(config.exemplar)
    if config.exemplar.table is not None:
        del parts["features"]
        return {**parts, "table": vectors_digest(config.exemplar.table)}
    shape = {key: getattr(config.tsm, key) for key in ("name", "model_args", "input")}
    return parts if exemplar_from_tsm(config) else {**parts, "shape": shape}


def run_folder(config: Config) -> Path:
    """Return the folder of a run: `<out>/<data>/<stage>[-<tag>]-seed<seed>-<hash>`.

    Example:
        >>> run_folder(compose_config("train", ["stage=ep"]))
        PosixPath('runs/digits/ep-seed0-3fa2b1c4')
    """
    text = json.dumps(identity(config), sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    words = [config.stage.name, *([config.tag] if config.tag else []), f"seed{config.seed}", digest]
    return Path(config.out).expanduser() / data_name(config) / "-".join(words)


def data_name(config: Config) -> str:
    """Return the short name of the data, for folders and titles."""
    data = config.data
    return data.name or Path(data.path or data.root or data.source).resolve().stem
