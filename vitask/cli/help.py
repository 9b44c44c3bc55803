"""`--help` of a verb: read from the YAML files, so that it is never out of date and needs no heavy import."""

from __future__ import annotations

from importlib.resources import files


def wants_help(arguments: list[str]) -> bool:
    """Say whether help was asked for."""
    return any(argument in ("-h", "--help") for argument in arguments)


def print_help(root: str, summary: str, examples: str, usage: str | None = None) -> None:
    """Print usage, config groups, keys with their defaults and comments, and examples of a verb."""
    configs = files("vitask.configs")
    print(f"Usage: vitask {usage or root} [key=value ...]\n\n{summary}\n")
    text = (configs / f"{root}.yaml").read_text()
    defaults = [line.strip()[2:] for line in text.splitlines() if line.startswith("  - ") and ": " in line]
    if defaults:
        print("Groups (choose with group=option):")
        for entry in defaults:
            name, chosen = (part.strip() for part in entry.split(":", 1))
            options = sorted(f.name[:-5] for f in (configs / name).iterdir() if f.name.endswith(".yaml"))
            shown = ", ".join(option for option in options if option != "base")
            print(f"  {name:<11} {chosen:<12} of: {shown}")
        print("  Every key of a group can be set alone, for example optim.lr=1e-3; configs/ documents them.\n")
    print("Keys:")
    for line in text.splitlines():
        if line and not line.startswith((" ", "#", "defaults")):
            print(f"  {line}")
    print(f"\nExamples:\n{examples}")
