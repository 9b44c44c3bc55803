"""`vitask evaluate`."""

from __future__ import annotations

from vitask.cli.help import print_help, wants_help

EXAMPLES = """\
  vitask evaluate run=runs/digits/ep-seed0-38dc80e7
  vitask evaluate run=runs/digits/ep-seed0-38dc80e7 exemplar=off split=val generate=false
  vitask evaluate run=runs/retinamnist/crt-seed0-... data=idrid data.root=idrid data.fractions=[0,0,1]
  vitask evaluate run=runs/retinamnist/crt-seed0-... data=runs/idrid/tsm-seed0-... tsm=runs/idrid/tsm-seed0-...
  vitask evaluate run=runs/digits/crt-seed0-... exemplar=off ranking=true  does the VLM rank the right image first?
  vitask evaluate run=runs/digits/crt-seed0-... exemplar_content=shuffled  is it the content of the exemplar?
  vitask evaluate run=runs/digits/crt-seed0-... tuned=false ranking=true   did it before tuning?
  vitask evaluate run=runs/digits/vanilla-seed0-... contrast=1             contrastive decoding in the place of CRT
  vitask evaluate run=runs/digits/crt-seed0-... probe=embedded             what tuning cost in general ability
  vitask evaluate run=runs/chest/crt-seed0-... probe=captions.jsonl        the same, on a table of your own
  torchrun --nproc_per_node 8 -m vitask evaluate run=runs/chest/crt-seed0-...    each GPU looks at its part"""


def main(arguments: list[str]) -> None:
    """Evaluate a run and print one table."""
    if wants_help(arguments):
        print_help(
            "evaluate",
            "Score a finished run: accuracy with its 95 % interval, balanced accuracy, macro-F1, AUC, ECE;\n"
            "beside the TSM, the mean of its label probabilities and the VLM's (averaged), and the majority class.\n"
            "Of a run that answers in words (data=instructions): exact match and token F1 of its answers, how often\n"
            "the right response is the likeliest among others, perplexity; beside the commonest response.\n"
            "Writes eval/<split>-<mode>/metrics.json and predictions.csv into the run folder; with ranking=true also\n"
            "ranking.json, with probe=... eval/probe-<name>/ instead.",
            EXAMPLES,
        )
        return
    from vitask.config.compose import compose_config

    request = compose_config("evaluate", arguments)
    from vitask.reporting.open_ended import open_ended_table
    from vitask.reporting.ranking import ranking_table
    from vitask.reporting.retention import probe_table
    from vitask.reporting.table import evaluation_table
    from vitask.runs.evaluate import evaluate
    from vitask.runs.folder import is_main

    results = evaluate(request)
    if not is_main():
        return
    if request.probe is not None:
        print(probe_table(results[0]))
    else:
        print((open_ended_table if "by_instruction" in results[0] else evaluation_table)(results))
    if ranking := ranking_table(results):
        print(f"\n{ranking}")
