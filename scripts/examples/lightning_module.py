"""VITask's losses in a Lightning module of ten lines."""

from __future__ import annotations

import lightning
import torch
from digits_vlm import Collator, build, digits

from vitask.losses import crt_loss, rda_loss, vanilla_loss


class VITaskModule(lightning.LightningModule):
    """Tunes with and without exemplar, teaches one by the other, and tells the image from another one."""

    def __init__(self, vlm):
        super().__init__()
        self.vlm = vlm

    def training_step(self, batch, _):
        """Return L_Van + L_EP + RDA + CRT of a batch."""
        with_image, with_exemplar, negative = map(self.vlm(batch).get, ("vanilla", "exemplar", "negative"))
        tuned = vanilla_loss(with_image, batch["labels"]) + vanilla_loss(with_exemplar, batch["labels"])
        taught = rda_loss(with_image, with_exemplar, batch["labels"])
        told = crt_loss(with_image, negative, batch["labels"], mask=batch["has_negative"])
        return tuned + 1.0 * taught + 0.1 * told

    def configure_optimizers(self):
        """Train what is not frozen."""
        return torch.optim.AdamW((p for p in self.parameters() if p.requires_grad), lr=4e-3)


def main(samples: int = 256, steps: int = 32) -> VITaskModule:
    """Train, and return the module."""
    vlm, prompter = build()
    loader = torch.utils.data.DataLoader(
        digits(samples), batch_size=8, shuffle=True, collate_fn=Collator(vlm, prompter)
    )
    trainer = lightning.Trainer(max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False)
    module = VITaskModule(vlm)
    trainer.fit(module, loader)
    return module


if __name__ == "__main__":
    main()
