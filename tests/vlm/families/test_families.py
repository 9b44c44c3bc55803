"""Which family serves a model, and whether it reads it rightly."""

from __future__ import annotations

import pickle

import pytest
import torch
import transformers as hf

from vitask.errors import UsageError, VitaskError
from vitask.vlm.families import FAMILIES, Generic, InternVL, QwenVL, family_for
from vitask.vlm.families.check import check_family
from vitask.vlm.model import ExemplarVLM

from .batches import make_prompts, make_vlm
from .zoo import ZOO, picture, text_config


def test_every_registered_model_type_is_in_the_zoo():
    assert {kind for family in FAMILIES for kind in family.model_types} == ZOO.keys() - {"vipllava"}
    for name, species in ZOO.items():
        assert (name in species.family.model_types) == (species.family.notice is None)


def test_paths_of_a_family_lead_to_modules(species):
    model = species.model()
    for path in (species.family.language_model, species.family.vision_tower, *species.family.projector):
        assert sum(p.numel() for p in model.get_submodule(path).parameters()) > 0


def test_model_of_the_common_form_is_served_with_a_notice():
    family = family_for(ZOO["vipllava"].model())
    assert isinstance(family, Generic)
    assert (family.language_model, family.vision_tower) == ("model.language_model", "model.vision_tower")
    assert family.projector == ("model.multi_modal_projector",)
    assert "'vipllava' has no family of its own" in family.notice
    assert "\n" not in family.notice
    assert pickle.loads(pickle.dumps(family)).projector == family.projector


def text_only():
    return hf.Qwen2ForCausalLM(text_config(hf.Qwen2Config, ZOO["llava"].processor.tokenizer))


def gemma():
    words = ZOO["llava"].processor.tokenizer
    text = text_config(hf.Gemma3TextConfig, words, head_dim=8)
    vision = hf.SiglipVisionConfig(hidden_size=16, intermediate_size=24, num_attention_heads=2, num_hidden_layers=1)
    config = hf.Gemma3Config(text_config=text, vision_config=vision, image_token_id=words.image_token_id)
    with torch.device("meta"):
        return hf.Gemma3ForConditionalGeneration(config)


def relabelled(name):
    def build():
        model = ZOO[name].model()
        model.config.model_type = "unheard-of"
        return model

    return build


REFUSED = {
    "text only": (
        text_only,
        "no model.language_model; no vision tower under a usual name; no projector under a usual name; "
        "no get_image_features; no image_token_id",
    ),
    "attends both ways": (gemma, "token types in its inputs"),
    "mrope": (relabelled("qwen2_vl"), "positions on several axes; token types in its inputs"),
    "deepstack": (
        relabelled("qwen3_vl"),
        "positions on several axes; token types in its inputs; image features inside the decoder",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_model_of_another_form_is_refused_with_all_that_is_different(case):
    build, reasons = REFUSED[case]
    with pytest.raises(UsageError) as refusal:
        family_for(build())
    assert f"needs a family of its own ({reasons});" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_family_reads_its_model_rightly(species):
    for prompt in make_prompts(species):
        check_family(ExemplarVLM(species.model(), species.family).eval(), prompt, species.prompter)
    check_family(make_vlm(species), prompt, species.prompter)


class WithoutDeepstack(QwenVL):
    pass


class WithoutRows(InternVL):
    vision_tower = "model.visual"
    projector = ("model.visual.merger",)


@pytest.mark.parametrize(("name", "family"), [("qwen3_vl", WithoutDeepstack), ("qwen2_vl", WithoutRows)])
def test_family_that_misreads_a_model_is_found_out(name, family):
    species = ZOO[name]
    vlm = ExemplarVLM(species.model(), family()).eval()
    prompter = type(species.prompter)(species.processor, family(), vlm.base.config)
    prompt = prompter.prompt(picture(0, (32, 32)), "Which?")
    with pytest.raises(VitaskError, match=f"{family.__name__} misreads"):
        check_family(vlm, prompt, prompter)
