"""A page in the browser to try a finished run: what it says of an image, and a talk about it."""
