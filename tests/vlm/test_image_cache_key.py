from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from vitask.vlm import image_cache
from vitask.vlm.image_cache import image_cache_key

from .caching import COUNTS, call, encode, files
from .tiny import WIDTH, make_prompts, make_vlm, tiny_prompter


class TestKey:
    @staticmethod
    def key(change=lambda vlm, prompter: None, **options):
        vlm, prompter = make_vlm(), copy.copy(tiny_prompter())
        prompter.processor = copy.deepcopy(prompter.processor)
        vlm.requires_grad_(False)
        change(vlm, prompter)
        return image_cache_key(vlm, prompter, **{"data_fingerprint": "digits", "split": "train", **options})

    def test_any_ingredient_makes_another_file(self, tmp_path, monkeypatch):
        def tower(vlm, _):
            data = next(vlm.image_modules[0].parameters()).data.view(-1)
            data[0] = torch.nextafter(data[0], torch.tensor(9.0))

        def projector(vlm, _):
            data = next(vlm.image_modules[-1].parameters()).data.view(-1)
            data[0] = torch.nextafter(data[0], torch.tensor(9.0))

        def new_line(vlm, _):
            vlm.base.base_model.image_newline = nn.Parameter(torch.zeros(2), requires_grad=False)

        def config(vlm, _):
            vlm.base.config.vision_feature_layer = -2

        def attention(vlm, _):
            vlm.base.config.vision_config._attn_implementation = "eager"

        def settings(_, prompter):
            prompter.processor.image_processor.image_mean = (0.5, 0.5, 0.25)

        def options(_, prompter):
            prompter.image_options = {"crop_to_patches": True}

        changes = [tower, projector, new_line, config, attention, settings, options]
        keys = [self.key(), *map(self.key, changes), self.key(data_fingerprint="other"), self.key(split="val")]
        monkeypatch.setattr(image_cache.transformers, "__version__", "0")
        keys.append(self.key())
        for number, key in enumerate(keys, 1):
            call(tmp_path, key=key)
            assert len(files(tmp_path)) == number

    def test_number_shape_dtype_and_format_make_another_file(self, tmp_path, monkeypatch):
        call(tmp_path)
        call(tmp_path, counts=COUNTS[:-1])
        call(tmp_path, lambda inputs: encode(inputs).view(-1, 1, 6), shape=(1, 6))
        call(tmp_path, lambda inputs: encode(inputs).half(), dtype=torch.float16)
        monkeypatch.setattr(image_cache, "FORMAT_VERSION", 2)
        call(tmp_path)
        assert len(files(tmp_path)) == 5

    def test_the_language_model_and_the_path_do_not_count(self):
        def language(vlm, _):
            for path in (vlm.family.language_model, "lm_head"):
                for parameter in vlm.base.get_submodule(path).parameters():
                    parameter.requires_grad_().data += 1
            vlm.connector.requires_grad_()

        def path(vlm, _):
            vlm.base.config._name_or_path = "elsewhere"

        assert self.key() == self.key(language) == self.key(path)

    def test_a_model_without_lora_has_the_same_key(self):
        vlm = make_vlm(None, lora=False).requires_grad_(False)
        assert image_cache_key(vlm, tiny_prompter(), data_fingerprint="digits", split="train") == self.key()

    @pytest.mark.parametrize(("part", "name"), [(0, "vision"), (-1, "projector")])
    def test_an_encoder_that_trains_has_none(self, part, name):
        with pytest.raises(ValueError, match=rf"'.*{name}.*' is not frozen"):
            self.key(lambda vlm, _: vlm.image_modules[part].requires_grad_())

    def test_prompts_know_the_token_counts(self, tmp_path):
        prompts, vlm = make_prompts(2), make_vlm()

        def live(some):
            images = {"pixel_values": torch.cat([one["pixel_values"] for one in some])}
            return vlm.encode_images(images).view(-1, 1, WIDTH)

        inputs, counts = [prompt.images for prompt in prompts], [prompt.image_tokens for prompt in prompts]
        assert len(call(tmp_path, live, inputs, counts, key=self.key(), shape=(1, WIDTH))) == 2
