"""`vitask evaluate`."""

from __future__ import annotations

from vitask.cli.help import print_help, wants_help

EXAMPLES = """\
  vitask evaluate run=runs/digits/ep-seed0-38dc80e7
  vitask evaluate run=runs/digits/ep-seed0-38dc80e7 exemplar=off split=val generate=false
  vitask evaluate run=runs/retinamnist/crt-seed0-... data=idrid data.root=idrid data.fractions=[0,0,1]
  vitask evaluate run=runs/retinamnist/crt-seed0-... data=runs/idrid/tsm-seed0-... tsm=runs/idrid/tsm-seed0-..."""


def main(arguments: list[str]) -> None:
    """Evaluate a run and print one table."""
    if wants_help(arguments):
        print_help(
            "evaluate",
            "Score a finished run: closed-set accuracy, macro-F1 and AUC beside the TSM and the majority class.\n"
            "Writes eval/<split>-<mode>/metrics.json and predictions.csv into the run folder.",
            EXAMPLES,
        )
        return
    from vitask.config.compose import compose_config

    request = compose_config("evaluate", arguments)
    from vitask.reporting.table import evaluation_table
    from vitask.runs.evaluate import evaluate

    print(evaluation_table(evaluate(request)))
