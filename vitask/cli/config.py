"""`vitask config`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vitask.cli.help import print_help, wants_help
from vitask.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from vitask.config.origins import Key, Origins

ROOTS = {
    **{verb: verb for verb in ("train", "evaluate", "predict", "export", "compare", "report", "bench")},
    "demo-ui": "demo_ui",
    "doctor": "train",
    "data": "train",
    "ablate": "ablation",
}
"""By verb, what it composes."""
WIDEST = 60
EXAMPLES = """\
  vitask config                                    the embedded default
  vitask config stage=ep objective=rda optim.lr=1e-4
  vitask config experiment=paper_derma data.root=~/medmnist
  vitask config evaluate run=runs/digits/crt-seed0-... exemplar=off
  vitask config ablate demo seeds=[0,1,2]          a grid: its rows, evaluations and effects"""


def main(arguments: list[str]) -> None:
    """Print the configuration that a verb would work with, as YAML, each value with its origin behind it."""
    if wants_help(arguments):
        print_help(
            "train",
            "Print what a verb would work with (without a verb: train) as YAML; behind each value the file that set\n"
            "it last, or 'override'. Overrides as for the verb. Nothing else is done.",
            EXAMPLES,
            usage="config [VERB]",
        )
        return
    verb, overrides = "train", arguments
    if arguments and "=" not in arguments[0]:
        verb, *overrides = arguments
    if verb not in ROOTS:
        raise UsageError(f"config: no verb '{verb}'.{did_you_mean(verb, ROOTS)} There are {', '.join(ROOTS)}")
    from vitask.config.origins import trace, trace_grid

    if verb == "ablate":
        if not overrides or "=" in overrides[0]:
            raise UsageError("give the name of a grid first: vitask config ablate demo [key=value ...]")
        values, origins = trace_grid(overrides[0], overrides[1:])
    else:
        values, origins = trace(ROOTS[verb], overrides)
    lines = list(_lines(values, origins))
    width = min(WIDEST, max(len(line) for line, _ in lines))
    for line, origin in lines:
        print(f"{line:<{width}}  # {origin}" if origin else line)


def _lines(values: dict[str, Any], origins: Origins, key: Key = ()) -> Iterator[tuple[str, str]]:
    """Yield lines of YAML, each with the origin of its value, or an empty text where it opens a dictionary."""
    indent = "  " * len(key)
    for name, value in values.items():
        place = (*key, str(name))
        if isinstance(value, dict) and value:
            yield f"{indent}{_flow({name: None}).removesuffix(' null')}", ""
            yield from _lines(value, origins, place)
        else:
            yield f"{indent}{_flow({name: value})}", origins[place]


def _flow(entry: dict[str, Any]) -> str:
    """Write one entry in a line of YAML."""
    import yaml

    text = yaml.safe_dump(entry, default_flow_style=True, width=sys.maxsize, allow_unicode=True, sort_keys=False)
    return text.strip()[1:-1]
