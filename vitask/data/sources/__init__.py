"""Where images and labels come from: one file a source, each with one ``load_*_task``."""
