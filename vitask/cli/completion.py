"""`vitask completion`: a script for the shell; it asks the hidden verb `__complete` for the words that fit."""

from __future__ import annotations

from vitask.cli.help import wants_help
from vitask.errors import UsageError, did_you_mean

BASH = r"""
_vitask() {
    local IFS=$'\n' word typed
    word="${COMP_LINE:0:COMP_POINT}"
    word="${word##*[[:space:]]}"
    typed=""
    # bash takes what stands behind the last '=' for a word of its own
    [[ "$COMP_WORDBREAKS" == *=* ]] && typed="${word%"${word##*=}"}"
    COMPREPLY=($("$1" __complete "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$typed"}")
    [[ "${#COMPREPLY[@]}" == 1 && "${COMPREPLY[0]}" == *[=.] ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -o default -F _vitask vitask
"""
ZSH = r"""
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
_vitask() {
    local -a found open closed
    found=("${(@f)$("${words[1]}" __complete "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
    found=(${found:#})
    open=(${(M)found:#*[=.]})
    closed=(${found:#*[=.]})
    (( $#open )) && compadd -S '' -- $open
    (( $#closed )) && compadd -- $closed
    (( $#found )) && return
    compset -P '*='
    _files
}
compdef _vitask vitask
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH}
HELP = """\
Usage: vitask completion SHELL

Print a script for bash or zsh that completes verbs, keys, groups and their options, and choices. Put the line of
your shell into ~/.bashrc or ~/.zshrc.

Examples:
  eval "$(vitask completion bash)"
  eval "$(vitask completion zsh)"
  vitask completion bash > ~/.local/share/bash-completion/completions/vitask"""


def main(arguments: list[str]) -> None:
    """Print the script of a shell."""
    if not arguments or wants_help(arguments):
        print(HELP)
        return
    if len(arguments) > 1 or arguments[0] not in SCRIPTS:
        near = did_you_mean(arguments[0], SCRIPTS)
        raise UsageError(f"completion: no script for '{' '.join(arguments)}'.{near} There are {', '.join(SCRIPTS)}")
    print(SCRIPTS[arguments[0]].strip())


def complete(line: str) -> list[str]:
    """Return what the last word of a command line may become; keys end in '=' or '.', where more is to be typed.

    Args:
        line: from the name of the program up to the cursor.

    Example:
        >>> complete("vitask train obj")
        ['objective=', 'objective.']
    """
    from vitask.cli.main import VERBS
    from vitask.config.completion import GRIDS, key_words
    from vitask.config.keys import groups

    _, *words, current = [*line.split(), ""] if line[-1:].isspace() else line.split()
    if not words:
        return _fitting([*VERBS, "--help", "--version"], current)
    verb, *rest = words
    first = not [word for word in rest if not word.startswith("-")]
    if verb == "config" and rest and rest[0] in VERBS:
        verb, rest = rest[0], rest[1:]
        first = not rest
    elif verb == "config":
        from vitask.cli.config import ROOTS

        return _fitting([*(ROOTS if first else ()), *key_words("train", current), "--help"], current)
    if verb == "completion":
        return _fitting([*SCRIPTS, "--help"], current) if first else []
    if verb == "data" and first:
        return _fitting(["inspect", "--help"], current)
    if verb == "ablate" and first:
        return _fitting([*groups()[GRIDS], "--help"], current)
    return _fitting([*key_words(verb, current), "--help"], current)


def _fitting(words: list[str], current: str) -> list[str]:
    """Keep what begins as typed; an option only once its dash is there."""
    return [word for word in words if word.startswith(current) and (current or not word.startswith("-"))]
