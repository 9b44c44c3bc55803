"""VITask's losses in TRL's `SFTTrainer`, on a Hugging Face model as it is.

The teacher of RDA is the same model with one more embedding behind the image, the exemplar; CRT's negative is the same
text behind the image of another sample. All images here have as many tokens, so that place is the same in every row.
"""

from __future__ import annotations

import tempfile

import torch
from datasets import Dataset
from digits_vlm import QUESTION, digits
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from vitask.losses import IGNORE_INDEX, crt_loss, rda_loss, select_response, vanilla_loss
from vitask.vlm.adapt import add_lora
from vitask.vlm.connector import Connector
from vitask.vlm.families import family_for
from vitask.vlm.load import load_pretrained


class Collator:
    """TRL's own collator, and the exemplars of the batch."""

    def __init__(self, processor) -> None:
        self.inner = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)

    def __call__(self, rows: list[dict]) -> dict:
        """Return what the model takes, `labels (B, T)` and `exemplars (B, 1, D)`."""
        exemplars = torch.tensor([row.pop("exemplar") for row in rows])
        return {**self.inner(rows), "exemplars": exemplars}


class VITaskSFTTrainer(SFTTrainer):
    """Tunes with and without exemplar, teaches one by the other, and tells the image from another one."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False  # the loss is a mean of its batch: divide it when batches accumulate

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return L_Van + L_EP + RDA + CRT of a batch."""
        every, exemplars = inputs.pop("labels"), inputs.pop("exemplars")
        outputs = model(**inputs)
        with_image, labels = select_response(outputs.logits, every)
        with_exemplar, _ = select_response(*self.see_exemplar(model, inputs, every, exemplars))
        other = {**inputs, "pixel_values": inputs["pixel_values"].roll(1, 0)}
        negative, _ = select_response(model(**other).logits, every)
        differs = (labels != labels.roll(1, 0)).any(1, keepdim=True)
        loss = vanilla_loss(with_image, labels) + vanilla_loss(with_exemplar, labels)
        loss = loss + 1.0 * rda_loss(with_image, with_exemplar, labels)
        loss = loss + 0.1 * crt_loss(with_image, negative, labels, mask=differs)
        return (loss, outputs) if return_outputs else loss

    def see_exemplar(self, model, inputs, labels, exemplars):
        """Return logits and labels of the same text with the exemplar's embedding behind the image."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        place = int((ids[0] == model.config.image_token_id).nonzero().max()) + 1
        embeddings = model.get_input_embeddings()(ids)

        def insert(tensor, new):
            return torch.cat([tensor[:, :place], new, tensor[:, place:]], dim=1)

        outputs = model(
            inputs_embeds=insert(embeddings, model.connector(exemplars).to(embeddings.dtype)),
            attention_mask=insert(mask, torch.ones_like(mask[:, :1])),
            pixel_values=inputs["pixel_values"],
        )
        return outputs.logits, insert(labels, torch.full_like(labels[:, :1], IGNORE_INDEX))


def main(samples: int = 256, steps: int = 32) -> VITaskSFTTrainer:
    """Train, and return the trainer."""
    model, processor = load_pretrained("tiny")
    width = model.get_input_embeddings().embedding_dim
    model = add_lora(model, family_for(model))
    rows = [
        {
            "images": [sample["image"]],
            "prompt": [{"role": "user", "content": QUESTION}],
            "completion": [{"role": "assistant", "content": sample["answer"]}],
            "exemplar": sample["exemplar"].tolist(),
        }
        for sample in digits(samples)
    ]
    model.connector = Connector(len(rows[0]["exemplar"][0]), width)
    arguments = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        max_steps=steps,
        per_device_train_batch_size=8,
        learning_rate=4e-3,
        logging_steps=4,
        max_length=None,
        remove_unused_columns=False,  # the exemplars are a column of our own
        gradient_checkpointing=False,
        bf16=False,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
    )
    trainer = VITaskSFTTrainer(
        model, arguments, Collator(processor), Dataset.from_list(rows), processing_class=processor
    )
    trainer.train()
    return trainer


if __name__ == "__main__":
    main()
