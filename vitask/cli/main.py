"""The entry point: finds the verb, imports it, and turns errors into one line and an exit code."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence

from vitask import __version__
from vitask.errors import UsageError, VitaskError, did_you_mean
from vitask.interruption import interruptible, listen

VERBS = {
    "train": "train a stage, or the whole pipeline: tsm, vanilla, ep, crt",
    "doctor": "check a run before it starts: data, model, gradients, time, memory, disk",
    "evaluate": "score a finished run on a split, with and without the exemplar",
    "predict": "print label and probabilities for images of your own",
    "demo-ui": "try a finished run in the browser: drop an image, compare the models, talk about it",
    "export": "hand on a run: an adapter, a merged checkpoint or a bundle, with a model card",
    "ablate": "run a grid of runs defined in YAML and print one table",
    "compare": "test whether one run is better than another, over samples or over seeds",
    "data": "look at a data set: counts, an example, duplicates, warnings, a contact sheet",
    "config": "print what a verb would work with, and which file or override each value comes from",
    "report": "write one page and its tables from runs and grids",
    "bench": "measure what training and scoring cost beside plain tuning",
    "completion": "print a script that completes verbs, keys and options in bash or zsh",
}
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "; make room, then give the same command again"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "; see to its permissions, or name another place"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "; a folder is needed there, name another"),
}
"""What to do about an error of the system."""
HELP = """\
vitask: adapt a vision language model to a narrow task (VITask, arXiv 2410.06456)

Usage: vitask VERB [key=value ...]

Verbs:
{verbs}

Examples:
  vitask train                                   the whole method on the embedded default, in minutes
  vitask train stage=ep objective.alpha=0.3      one stage; earlier ones are trained first if they are missing
  vitask evaluate run=runs/digits/ep-seed0-...   with and without the exemplar, beside the TSM
  vitask predict run=runs/digits/ep-seed0-... image.png

`vitask VERB --help` lists the keys of a verb with their defaults. `--config-dir DIR` adds a folder with config groups
of your own, laid out like configs/.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb; exits with 0, with 2 for a wrong request, with 1 for a failure."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    listen()
    try:
        _check_ranks()
        with interruptible():
            run(_with_own_configs(arguments))
        sys.stdout.flush()
    except VitaskError as error:
        _leave(f"vitask: {error}", error.exit_code)
    except KeyboardInterrupt:
        _leave("vitask: interrupted; the same command resumes from the last checkpoint", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.strerror is None:
            raise
        place = f"{error.filename}: " if error.filename is not None else ""
        _leave(f"vitask: {place}{error.strerror}{REMEDIES.get(error.errno, '')}", 1)


def run(arguments: list[str]) -> None:
    """Dispatch to a verb's module, which is imported only now."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        width = max(map(len, VERBS))
        print(HELP.format(verbs="\n".join(f"  {verb:<{width}}  {text}" for verb, text in VERBS.items())), end="")
        return
    if arguments[0] in ("-V", "--version"):
        print(f"vitask {__version__}")
        return
    verb, rest = arguments[0], arguments[1:]
    if verb == "__complete":
        print("\n".join(importlib.import_module("vitask.cli.completion").complete(" ".join(rest))))
        return
    if verb not in VERBS:
        _leave(f"vitask: unknown verb '{verb}'.{did_you_mean(verb, VERBS)} There are {', '.join(VERBS)}", 2)
    importlib.import_module(f"vitask.cli.{verb.replace('-', '_')}").main(rest)


def _check_ranks() -> None:
    """Raise a `UsageError` if the variables by which a launcher numbers its processes are not as one sets them."""
    found = {name: os.environ[name] for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK") if name in os.environ}
    for name, value in found.items():
        if not value.isdecimal():
            raise UsageError(f"{name}={value}: in the environment, expected a number as torchrun sets it; unset it")
    rank, ranks = int(found.get("RANK", "0")), int(found.get("WORLD_SIZE", "1"))
    if rank >= ranks:
        raise UsageError(f"RANK={rank}: in the environment, but WORLD_SIZE says {ranks} process(es); unset it")
    needed = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    if ranks > 1 and (missing := [name for name in needed if name not in os.environ]):
        raise UsageError(
            f"WORLD_SIZE={ranks}: in the environment, but not {', '.join(missing)}; start with torchrun, or unset it"
        )


def _with_own_configs(arguments: list[str]) -> list[str]:
    """Take `--config-dir DIR` out of the arguments; the environment hands it on to worker processes."""
    rest = []
    words = iter(arguments)
    for word in words:
        if word == "--config-dir" or word.startswith("--config-dir="):
            folder = word.partition("=")[2] or next(words, "")
            if not folder:
                raise UsageError("--config-dir needs a folder")
            os.environ["VITASK_CONFIG_DIR"] = folder
        else:
            rest.append(word)
    return rest


def _leave(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)
