"""`vitask demo-ui`."""

from __future__ import annotations

from vitask.cli.help import print_help, wants_help

EXAMPLES = """\
  vitask demo-ui run=runs/digits/crt-seed0-1a2b3c4d
  vitask demo-ui run=runs/digits/crt-seed0-... port=8000 examples=12"""


def main(arguments: list[str]) -> None:
    """Serve the page until it is interrupted."""
    if wants_help(arguments):
        print_help(
            "demo_ui",
            "Try a finished run in the browser: drop an image, see what the TSM and the VLM without and with exemplar\n"
            "make of it, and talk to the tuned VLM about it. Nothing leaves this machine.",
            EXAMPLES,
            usage="demo-ui",
        )
        return
    from vitask.config.compose import compose_config

    request = compose_config("demo_ui", arguments)
    from vitask.ui.serve import serve

    serve(request)
