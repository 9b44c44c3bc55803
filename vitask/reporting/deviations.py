"""How a run differs from the paper, and what it chose where the paper leaves a choice, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vitask.reporting.paper import MEDMNIST
from vitask.reporting.rules import CRT, DATA, OPTIM, RDA, TSM, VLM, broken

PAPER_VLM, PAPER_TSM, PAPER_PIXELS = "InternVL2-2B", "ViT-Base pre-trained on ImageNet-21k", 224
TERMS = {
    "vanilla": "L_Van",
    "ep": "L_EP",
    "rda": "RDA",
    "crt": "CRT",
    "ranking": "closed-set ranking",
    "csa": "closed-set alignment",
    "image_ranking": "image ranking",
}
PAPER_TERMS = {"vanilla": ("vanilla",), "ep": ("vanilla", "ep", "rda"), "crt": ("vanilla", "ep", "rda", "crt")}
STAGES = {"vanilla": "Plain tuning", "ep": "Stage 1", "crt": "Stage 2"}
PLACES = {
    "after_image": "behind the image tokens",
    "before_assistant": "before the assistant's tag",
    "replace_image": "in the place of the image tokens",
}


def deviations(config: Mapping[str, Any], weights: Mapping[str, float]) -> list[str]:
    """Say in words where a run departs from what the paper states.

    Args:
        config: the resolved configuration of a run, as `config.yaml` holds it.
        weights: the weight of each loss term in the run's stage, 0 for those that it does not have.

    Returns:
        Sentences: data, TSM, VLM, exemplar, objective, training. What the paper leaves open is said by `open_choices`.

    Example:
        >>> deviations(config, {"vanilla": 1.0})[0]
        'The data are digits, which the paper does not use.'
    """
    has = parts_of(config, weights)
    in_words = config["data"]["source"] == "instructions"
    rules = [rule for rule in DATA if not (in_words and rule.key.startswith("data.instruction."))]
    found = [*_data(config["data"]), *broken(rules, config, has), *_tsm(config["tsm"], has), *broken(TSM, config, has)]
    if config["stage"]["name"] != "tsm":
        found += [*_vlm(config["vlm"]), *broken(VLM, config, has), *_exemplar(config["exemplar"], has)]
        found += [*_objective(config["stage"]["name"], weights), *broken((*RDA, *CRT), config, has)]
        found += [*broken(OPTIM, config, has), *_stage(config["stage"])]
    return found


def open_choices(config: Mapping[str, Any], weights: Mapping[str, float]) -> list[str]:
    """Say which values a run has where the paper leaves them open; arguments as for `deviations`.

    Example:
        >>> open_choices(config, {"vanilla": 1.0})[0]
        'LoRA: rank 8, alpha 16, dropout 0, on every linear layer of the language model.'
    """
    has = parts_of(config, weights)
    found = [] if config["stage"]["name"] == "tsm" else list(_open_of_vlm(config, weights, has))
    return found + (list(_open_of_tsm(config["tsm"])) if "tsm" in has else [])


def parts_of(config: Mapping[str, Any], weights: Mapping[str, float]) -> set[str]:
    """Return what a run has: its loss terms, and `exemplar` and `tsm` where it sees exemplars or takes a TSM."""
    has = {term for term, weight in weights.items() if weight}
    taught = "rda" in has and config["objective"]["rda"]["teacher"] == "exemplar"
    has |= {"exemplar"} if "ep" in has or taught else set()
    exemplar = config["exemplar"]
    from_tsm = "exemplar" in has and exemplar["table"] is None and exemplar["content"] != "constant"
    hinted = config["data"]["instruction"]["hint"] or config["stage"]["name"] == "tsm"
    return has | ({"tsm"} if from_tsm or hinted or "csa" in has else set())


def _data(data: Mapping[str, Any]) -> Iterator[str]:
    name = data["name"] or data["path"] or data["root"] or data["source"]
    if data["source"] == "mixture":
        if set(data["members"] or ()) != set(MEDMNIST):
            yield f"The data sets are {', '.join(data['members'] or ())}, not the paper's 12."
    elif data["source"] == "medmnist":
        yield f"Trained on {name} alone; the paper's Table 1 has one model for 12 sets."
    elif data["source"] in ("aptos2019", "idrid", "messidor"):
        yield f"Trained on {name}, on which the paper only evaluates."
    elif data["source"] == "instructions":
        yield f"The data are {name}, answered in words; the paper's have a closed set of labels."
    elif data["source"] != "ham10000":
        yield f"The data are {name}, which the paper does not use."
    pixels = data["size"] or (28 if data["source"] == "medmnist" else PAPER_PIXELS)
    if pixels < PAPER_PIXELS:
        yield f"The images have {pixels} pixels a side; the paper's models are made for {PAPER_PIXELS} and more."


def _tsm(tsm: Mapping[str, Any], has: set[str]) -> Iterator[str]:
    if "tsm" in has and not (tsm["name"].startswith("vit_base") and "in21k" in tsm["name"]):
        yield f"The TSM is {tsm['name']} instead of {PAPER_TSM}."


def _vlm(vlm: Mapping[str, Any]) -> Iterator[str]:
    path = vlm["path"].rstrip("/")
    if path == "tiny":
        yield f"The VLM is the embedded tiny InternVL of 0.7 M parameters instead of {PAPER_VLM}."
    elif path.endswith("InternVL2_5-2B-MPO-hf"):
        yield f"The VLM is {path}, of the same sizes but later weights, instead of {PAPER_VLM}."
    elif path.rpartition("/")[2] not in (PAPER_VLM, f"{PAPER_VLM}-hf"):
        yield f"The VLM is {path} instead of {PAPER_VLM}."


def _exemplar(exemplar: Mapping[str, Any], has: set[str]) -> Iterator[str]:
    if "exemplar" in has and exemplar["position"] == "replace_image":
        yield "The TSM's patch embeddings replace all image tokens (EP_rep, the paper's negative result)."


def _objective(stage: str, weights: Mapping[str, float]) -> Iterator[str]:
    active = [term for term, weight in weights.items() if weight]
    if own := [TERMS.get(term, term) for term in active if term not in PAPER_TERMS["crt"]]:
        yield f"The objective has {_listed(own)}, which the paper does not have."
    if missing := [TERMS[term] for term in PAPER_TERMS.get(stage, ()) if term not in active]:
        yield f"{STAGES[stage]} is without {_listed(missing)}, which the paper's objective has."


def _stage(stage: Mapping[str, Any]) -> Iterator[str]:
    if stage["name"] == "head":
        yield "The VLM has a linear head, a control; it does not answer in words."
    if stage["name"] == "ep" and not stage["train_connector"]:
        yield "The connector does not learn in stage 1; in the paper it does."
    if stage["name"] == "crt" and stage["train_connector"]:
        yield "The connector goes on learning in stage 2; in the paper it is frozen."
    if stage["name"] == "crt" and not stage["init_from"]:
        yield "Stage 2 starts from the untuned VLM, not from stage 1."


def _open_of_vlm(config: Mapping[str, Any], weights: Mapping[str, float], has: set[str]) -> Iterator[str]:
    lora, vlm, objective = config["lora"], config["vlm"], config["objective"]
    if letters := [f"{letter} = {weights[term]:g}" for term, letter in (("rda", "α"), ("crt", "β")) if term in has]:
        yield f"Weights: {', '.join(letters)}."
    if lora["tune"] == "adapter":
        targets = ", ".join(lora["targets"]) if lora["targets"] else "every linear layer of the language model"
        yield f"LoRA: rank {lora['rank']}, alpha {lora['alpha']:g}, dropout {lora['dropout']:g}, on {targets}."
    optim = config["optim"] if "exemplar" in has else {**config["optim"], "connector_lr": None}
    yield f"VLM: {_optimiser(optim)}; {vlm['dtype']}, mixed precision {config['launch']['precision']}."
    if "exemplar" in has:
        where = PLACES[config["exemplar"]["position"]]
        yield f"The exemplar stands {where}; the connector's kind is {config['connector']['kind']}."
    if objective["rda"]["teacher"] == "labels" and "rda" in has:
        yield f"The labels that teach in RDA's place are smoothed by {objective['rda']['smoothing']:g}."
    if vlm["image_options"]:
        yield f"Image processing: {_pairs(vlm['image_options'])}."
    if config["stage"]["name"] == "head":
        return
    yield f"The loss is averaged per {objective['reduction']}."
    if config["data"]["source"] == "instructions":
        yield "Answers are greedy; exact match and token F1 look past case, spaces and punctuation."
        return
    yield "The answer is the label whose text is likeliest; answers in free form are scored beside it."


def _open_of_tsm(tsm: Mapping[str, Any]) -> Iterator[str]:
    if tsm["tune"] == "none":
        start = "of a checkpoint" if tsm["checkpoint"] else "pre-trained" if tsm["pretrained"] else "random"
        yield f"TSM: {tsm['name']}, an encoder that is kept as it comes; its weights are {start}."
        return
    recipe = [f"augmentation {_pairs(tsm['augment'])}" if tsm["augment"] else "no augmentation"]
    recipe += [f"{key.replace('_', ' ')} {tsm[key]:g}" for key in ("mixup", "cutmix", "label_smoothing") if tsm[key]]
    recipe += [f"weights averaged with decay {tsm['ema']:g}"] if tsm["ema"] else []
    yield f"TSM: {_optimiser(tsm['optim'])}; {', '.join(recipe)}."


def _optimiser(optim: Mapping[str, Any]) -> str:
    connector = f" (connector {optim['connector_lr']:g})" if optim["connector_lr"] else ""
    return (
        f"{optim['name']}, learning rate {optim['lr']:g}{connector}, {optim['schedule']} schedule, warm-up "
        f"{100 * optim['warmup']:g}%, weight decay {optim['weight_decay']:g}, gradient norm at most {optim['clip']:g}, "
        f"batches of {optim['batch_size']}"
    )


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
