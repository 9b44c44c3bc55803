"""Serving the page on this machine: nothing is shared, counted or fetched from elsewhere."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

from vitask.errors import UsageError
from vitask.runs.folder import say
from vitask.ui.desk import Desk

if TYPE_CHECKING:
    from gradio import Blocks

    from vitask.config.schema import DemoUIConfig

TINY = 64
"""Where all examples are of this side at most, images are drawn with hard pixels."""
PIXELS = "img { image-rendering: pixelated; }"
FILLED = "#image img { width: 100%; height: 100%; object-fit: contain; }"
OWN_FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}


def serve(request: DemoUIConfig) -> None:
    """Show the page until it is interrupted.

    Raises:
        UsageError: Gradio is not installed, there is no run, or the port is taken.
        VitaskError: the run is not finished, or a file is missing or damaged.
    """
    page, _ = start(request)
    say("Ctrl-C ends it")
    page.block_thread()


def start(request: DemoUIConfig) -> tuple[Blocks, str]:
    """Start serving in the background, and return the page and its address."""
    if find_spec("gradio") is None:
        raise UsageError("demo-ui needs gradio, which is not installed: pip install 'vitask[ui]'")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    desk = Desk(request)
    examples = desk.examples(request.examples)
    import gradio as gr

    from vitask.ui.page import build

    page = build(desk, examples)
    small = examples and max(max(each.image.size) for each in examples) <= TINY
    try:
        _, address, _ = page.launch(
            server_name=request.host,
            server_port=request.port,
            theme=gr.themes.Default(**OWN_FONTS),
            css=FILLED + PIXELS if small else FILLED,
            footer_links=[],
            share=False,
            quiet=True,
            ssr_mode=False,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise UsageError(f"host={request.host} port={request.port}: cannot be served there: {error}") from error
    say(f"{desk.title}: open {address} in a browser")
    return page, address
