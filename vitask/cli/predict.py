"""`vitask predict`."""

from __future__ import annotations

from pathlib import Path

from vitask.cli.help import print_help, wants_help

EXAMPLES = """\
  vitask predict run=runs/digits/ep-seed0-38dc80e7 scan.png
  vitask predict run=runs/digits/ep-seed0-38dc80e7 exemplar=off scans/ more.png
  vitask predict run=runs/questions/crt-seed0-... instruction='What color is the shape?' image.png"""
SHOWN = 5
NO_LABEL = "(no label)"


def main(arguments: list[str]) -> None:
    """Print answer and probabilities, or an answer in words, a line an image."""
    if wants_help(arguments):
        print_help(
            "predict",
            "Print answer and probabilities for images of your own, files or folders of them; of a run that answers\n"
            "in words (data=instructions) its answer to an instruction.",
            EXAMPLES,
        )
        return
    overrides = [argument for argument in arguments if "=" in argument and not Path(argument).exists()]
    paths = [argument for argument in arguments if argument not in overrides]
    from vitask.config.compose import compose_config

    request = compose_config("predict", overrides)
    from vitask.runs.ask import answers_in_words, ask
    from vitask.runs.predict import predict

    if answers_in_words(request):
        for path, answer in ask(request, paths):
            print(f"{path}: {answer}")
        return
    for path, answer, probabilities in predict(request, paths):
        shown = ", ".join(f"{label} {p:.3f}" for label, p in list(probabilities.items())[:SHOWN])
        print(f"{path}: {answer or NO_LABEL} ({shown}{', ...' if len(probabilities) > SHOWN else ''})")
