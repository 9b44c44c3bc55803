"""The layout of the page: image and examples, one column of probabilities a model, and a talk."""

from __future__ import annotations

from html import escape, unescape
from typing import Any

import gradio as gr
from PIL.Image import Image

from vitask.errors import VitaskError
from vitask.ui.desk import Desk, Example

SHOWN = 10
"""Labels that a column shows."""
STYLE = "<style>#examples .thumbnail-item { height: 118px; aspect-ratio: auto }</style>"
"""A gallery crops images that are wider than it is high."""
NO_ANSWER = "(no answer)"
"""Shown where the model ends its answer at once."""


def build(desk: Desk, examples: list[Example]) -> gr.Blocks:
    """Lay out the page: image and examples, one column of probabilities a model, and the talk."""
    with gr.Blocks(title=f"vitask: {desk.title}", analytics_enabled=False) as page:
        gr.HTML(f"<h1>vitask</h1><p>{escape(desk.title)}</p>" + "".join(f"<p>{escape(n)}</p>" for n in desk.notes))
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                image = gr.Image(
                    type="pil",
                    format="png",
                    sources=["upload", "clipboard"],
                    label="Image",
                    height=280,
                    elem_id="image",
                )
                several = len(desk.names) > 1
                kind = gr.Dropdown(list(desk.names), value=desk.names[0], label="It is like", visible=several)
            with gr.Column(scale=3), gr.Row():
                columns = [
                    gr.Label(label=title, num_top_classes=SHOWN, elem_id=f"column-{number}", min_width=200)
                    for number, title in enumerate(desk.columns)
                ]
        if examples:
            told = "the right answer: click one" if columns else "an answer: a click writes its question below"
            gr.HTML(f"{STYLE}Images of the test split, each with {told}")
            clicked = gr.Gallery(
                [(each.image, each.answer) for each in examples],
                show_label=False,
                format="png",
                columns=len(examples),
                height=150,
                object_fit="contain",
                allow_preview=False,
                interactive=False,
                buttons=[],
                elem_id="examples",
            )
        asked = _talk(desk, image) if desk.talks else None

    def answered(shown: Image | None, name: str) -> Any:
        found = desk.answers(shown, desk.names.index(name)) if shown else dict.fromkeys(desk.columns)
        values = [found[title] for title in desk.columns]
        return values if len(values) != 1 else values[0]

    def picked(event: gr.SelectData) -> list[Any]:
        chosen = examples[event.index]
        return [chosen.image, desk.names[chosen.number], *([chosen.instruction] if asked else [])]

    with page:
        if columns:
            for changed in (image, kind):
                changed.change(answered, [image, kind], columns, show_progress="hidden")
        if examples:
            clicked.select(picked, None, [image, kind, *([asked] if asked else [])], show_progress="hidden")
    return page


def _talk(desk: Desk, image: gr.Image) -> gr.Textbox:
    """The talk about the image, which begins anew with every one; return the field for what is asked.

    Gradio reads turns and errors as HTML, so they are escaped.
    """
    talk = gr.Chatbot(
        label="Talk to the tuned VLM, without exemplar",
        render_markdown=False,
        height=260,
        feedback_options=None,
        buttons=[],
        elem_id="talk",
    )
    asked = gr.Textbox(
        placeholder="Ask about the image", show_label=False, container=False, submit_btn=True, elem_id="asked"
    )

    def said(shown: Image | None, message: str, turns: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
        if shown is None:
            raise gr.Error("Choose an image first.")
        if not message.strip():
            return turns, ""
        turns = [*turns, {"role": "user", "content": escape(message)}]
        plain = [{"role": turn["role"], "content": unescape(_text(turn["content"]))} for turn in turns]
        plain = [{**turn, "content": "" if turn["content"] == NO_ANSWER else turn["content"]} for turn in plain]
        try:
            answer = desk.reply(shown, plain) or NO_ANSWER
        except VitaskError as error:
            raise gr.Error(escape(str(error))) from error
        return [*turns, {"role": "assistant", "content": escape(answer)}], ""

    asked.submit(said, [image, asked, talk], [talk, asked])
    image.change(list, None, talk, show_progress="hidden")
    return asked


def _text(content: Any) -> str:
    """The text of a turn; Gradio hands back a list of parts."""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
