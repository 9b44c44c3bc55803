"""`vitask export`."""

from __future__ import annotations

from vitask.cli.help import print_help, wants_help

EXAMPLES = """\
  vitask export run=runs/digits/crt-seed0-1a2b3c4d                 a checkpoint with LoRA merged in
  vitask export run=runs/digits/crt-seed0-... to=adapter out=digits-adapter
  vitask export run=runs/digits/crt-seed0-... to=bundle            with exemplar: for vitask.Classifier, vitask.Answerer
  vitask export run=runs/digits/crt-seed0-... push=me/digits       also uploaded, to a private repository"""


def main(arguments: list[str]) -> None:
    """Export a run and print where it is."""
    if wants_help(arguments):
        print_help(
            "export",
            "Hand on a finished run: as a peft adapter or a merged checkpoint that plain transformers loads, or as a\n"
            "bundle with TSM and connector. Each holds its labels (labels.json) and a model card (README.md). It is\n"
            "loaded again and must give the same label probabilities, or answers in words, or nothing is written.",
            EXAMPLES,
        )
        return
    from vitask.config.compose import compose_config

    request = compose_config("export", arguments)
    from vitask.export.run import export

    print(export(request))
