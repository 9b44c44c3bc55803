"""A finished run as something to hand on: an adapter or a checkpoint of Hugging Face's own form, or a bundle."""
