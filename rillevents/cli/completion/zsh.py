"""The completion script for zsh: a function for each command, over zsh's own `_arguments`."""

from __future__ import annotations

from rillevents.cli.completion.tree import Command, Option, Values

_HEAD = """\
#compdef rillevents
# Completions of rillevents for zsh: as `_rillevents` in a folder of $fpath, or
#   source <(rillevents completions zsh)
# Made by `python -m rillevents.cli.completion`; changes belong there.
"""

_FOOT = """\
if [[ $funcstack[1] == _rillevents ]]; then
    _rillevents "$@"
elif (( $+functions[compdef] )); then
    compdef _rillevents rillevents
else
    print -u2 'rillevents: its completions need this first: autoload -Uz compinit && compinit'
fi
"""

_NO_SPACE = "-S ''"


def zsh(root: Command) -> str:
    """Return the script for zsh."""
    commands = [_group(command) if command.commands else _leaf(command) for command in root.walk()]
    return "\n".join([_HEAD, *(_kind(values) for values in root.values()), *commands, _FOOT])


def quoted(text: str) -> str:
    """Return *text* in single quotes, as zsh reads them."""
    return "'" + text.replace("'", r"'\''") + "'"


def escaped(text: str, special: str) -> str:
    """Return *text* with a backslash before each of the *special* characters, and before each backslash."""
    return "".join(f"\\{character}" if character in special + "\\" else character for character in text)


def _function(command: Command) -> str:
    return "_rillevents" + "".join(f"__{word.replace('-', '_')}" for word in command.path.split())


def _leaf(command: Command) -> str:
    places = [quoted(f":{_place(argument.label, argument.values)}") for argument in command.arguments]
    specs = [spec for option in command.options for spec in _specs(option)] + places
    return _body(command, ["_arguments -s -S : " + _joined(specs)])


def _group(command: Command) -> str:
    specs = [spec for option in command.options for spec in _specs(option)]
    specs += ["'1:command:->command'", "'*::argument:->arguments'"]
    # The first colon ends the name; those after it need no backslash.
    names = [quoted(f"{below.name}:{escaped(below.help, '')}") for below in command.commands]
    cases = [f"            {below.name}) {_function(below)} && ret=0 ;;" for below in command.commands]
    return _body(
        command,
        [
            "local context state state_descr line ret=1",
            "typeset -A opt_args",
            "local -a commands=(",
            *(f"    {name}" for name in names),
            ")",
            "_arguments -s -C : " + _joined(specs) + " && ret=0",
            "case $state in",
            "    command) _describe -t commands command commands && ret=0 ;;",
            "    arguments)",
            "        case $line[1] in",
            *cases,
            "        esac",
            "        ;;",
            "esac",
            "return ret",
        ],
    )


def _body(command: Command, lines: list[str]) -> str:
    return "\n".join([f"{_function(command)}() {{", *(f"    {line}" for line in lines), "}", ""])


def _joined(specs: list[str]) -> str:
    return "".join(f"\\\n        {spec} " for spec in specs).rstrip()


def _specs(option: Option) -> list[str]:
    """Return the specification of each flag; those of one option exclude each other, unless it may be repeated."""
    before = "*" if option.repeatable else "(- *)" if option.alone else f"({' '.join(option.flags)})"
    return [quoted(before + _spec(option, flag)) for flag in option.flags]


def _spec(option: Option, flag: str) -> str:
    told = f"[{escaped(option.help, '[]')}]"
    if option.values is None:
        return f"{flag}{told}"
    # A value follows as the next word, or at once: after = where the flag is a long one.
    return f"{flag}{'=' if flag.startswith('--') else '+'}{told}:{_place(option.label, option.values)}"


def _place(label: str, values: Values) -> str:
    return f"{escaped(label, ':')}:{f'_rillevents_of_{values.kind}' if values.words or values.files else ' '}"


def _kind(values: Values) -> str:
    lines = [
        *([_words(values.whole)] if values.whole else []),
        *([_words(values.open, _NO_SPACE)] if values.open else []),
        *(_files(prefix) for prefix in values.files),
    ]
    head = [f"_rillevents_of_{values.kind}() {{", "    local ret=1"]
    return "\n".join([*head, *(f"    {line} && ret=0" for line in lines), "    return ret", "}", ""])


def _words(words: tuple[str, ...], suffix: str = "") -> str:
    return " ".join(['compadd "$@"', *([suffix] if suffix else []), "--", *words])


def _files(prefix: str) -> str:
    if not prefix:
        return "_files"
    return f"if compset -P {quoted(prefix)}; then _files; else {_words((prefix,), _NO_SPACE)}; fi"
