"""VITask's losses in a transformers `Trainer`: one method."""

from __future__ import annotations

import tempfile

from digits_vlm import Collator, build, digits
from transformers import Trainer, TrainingArguments

from vitask.losses import crt_loss, rda_loss, vanilla_loss


class VITaskTrainer(Trainer):
    """Tunes with and without exemplar, teaches one by the other, and tells the image from another one."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return L_Van + L_EP + RDA + CRT of a batch."""
        labels, has_negative = inputs.pop("labels"), inputs.pop("has_negative")
        logits = model(inputs)
        loss = vanilla_loss(logits["vanilla"], labels) + vanilla_loss(logits["exemplar"], labels)
        loss = loss + 1.0 * rda_loss(logits["vanilla"], logits["exemplar"], labels)
        loss = loss + 0.1 * crt_loss(logits["vanilla"], logits["negative"], labels, mask=has_negative)
        return (loss, logits) if return_outputs else loss


def main(samples: int = 256, steps: int = 32) -> VITaskTrainer:
    """Train, and return the trainer."""
    vlm, prompter = build()
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        max_steps=steps,
        per_device_train_batch_size=8,
        learning_rate=4e-3,
        logging_steps=4,
        remove_unused_columns=False,  # the collator needs the samples as they are
        save_strategy="no",
        report_to="none",
        use_cpu=True,
    )
    trainer = VITaskTrainer(vlm, arguments, train_dataset=digits(samples), data_collator=Collator(vlm, prompter))
    trainer.train()
    return trainer


if __name__ == "__main__":
    main()
