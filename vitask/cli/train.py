"""`vitask train`."""

from __future__ import annotations

from vitask.cli.help import print_help, wants_help

EXAMPLES = """\
  vitask train                                     tsm, vanilla, ep and crt on the embedded default
  vitask train stage=ep                            stage 1 of the paper; the TSM is trained first if it is missing
  vitask train stage=crt objective=crt seed=1      stage 2 without RDA
  vitask train stage=head                          a linear head on the VLM, the control against answers
  vitask train stage=ep data=medmnist data.name=dermamnist data.root=~/medmnist
  vitask train stage=all experiment=paper_derma data.root=~/medmnist
  vitask train stage=crt exemplar.table=dino.parquet    exemplars of another model; columns id, vector
  torchrun --nproc_per_node 2 -m vitask train stage=ep"""


def main(arguments: list[str]) -> None:
    """Compose the configuration and train."""
    if wants_help(arguments):
        print_help("train", "Train a stage, or the whole pipeline. Run folders follow from the settings.", EXAMPLES)
        return
    from vitask.config.compose import compose_config

    config = compose_config("train", arguments)
    from vitask.runs.train import train

    train(config)
