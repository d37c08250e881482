"""The completion script for fish."""

from __future__ import annotations

from rillevents.cli.completion.tree import Argument, Command, Option, Values

_HEAD = """\
# Completions of rillevents for fish: as rillevents.fish in ~/.config/fish/completions, or
#   rillevents completions fish | source
# Made by `python -m rillevents.cli.completion`; changes belong there.
"""

_ENGINE = r"""
# The command at hand, as `record log`, and on a second line how many arguments it has so far.
function __rillevents_walk
    set -l at
    set -l count 0
    set -l value 0
    set -l ended 0
    for word in (commandline -opc)[2..-1]
        if test $value = 1
            set value 0
        else if test $ended = 1; or string match -qr -- '^($|-$|[^-])' $word
            if contains -- "$at $word" $__rillevents_commands
                set at "$at $word"
            else
                set count (math $count + 1)
            end
        else if test x$word = x--
            set ended 1
        else if string match -q -- '--*' $word
            contains -- "$at $word" $__rillevents_takes; and set value 1
        else
            # Short options may stand together; the first one with a value takes what is left of the word.
            set -l left (string sub -s 2 -- $word | string split '')
            while set -q left[1]; and not contains -- "$at -$left[1]" $__rillevents_takes
                set -e left[1]
            end
            test (count $left) = 1; and set value 1
        end
    end
    string trim -- "$at"
    echo $count
end

# Whether the command at hand is $argv[1], and has $argv[2] arguments so far.
function __rillevents_at
    set -l found (__rillevents_walk)
    test "$found[1]" = "$argv[1]"; and begin
        not set -q argv[2]; or test "$found[2]" = $argv[2]
    end
end

# The files whose names begin with what stands after the prefix $argv[1].
function __rillevents_files
    set -l word (commandline -ct | string replace -r -- '^--[^=]*=' '')
    set -l plain (string sub -s (math 1 + (string length -- $argv[1])) -- "$word")
    if string match -q -- "$argv[1]*" "$word"
        printf "$argv[1]%s\n" (__fish_complete_path "$plain")
    else
        echo $argv[1]
    end
end

complete -c rillevents -f
"""


def fish(root: Command) -> str:
    """Return the script for fish."""
    lines = [line for command in root.walk() for line in _command(command)]
    return "\n".join([_HEAD, *_tables(root), _ENGINE, *lines]) + "\n"


def quoted(text: str) -> str:
    r"""Return *text* in single quotes, in which fish knows two escapes: \\ and \'."""
    return "'" + text.replace("\\", r"\\").replace("'", r"\'") + "'"


def _tables(root: Command) -> list[str]:
    paths = [command.path for command in root.walk() if command.path]
    takes = [f"{c.path} {flag}" for c in root.walk() for o in c.options if o.values for flag in o.flags]
    return [_table("commands", "The commands.", paths), _table("takes", "The options that take a value.", takes)]


def _table(name: str, told: str, entries: list[str]) -> str:
    # With a space before each, because that is how the walk puts them together, from nothing.
    rows = "".join(f" \\\n    {quoted(' ' + entry.strip())}" for entry in entries)
    return f"# {told}\nset -g __rillevents_{name}{rows}"


def _command(command: Command) -> list[str]:
    below = [f"{_at(command, 0)} -a {child.name} -d {quoted(child.help)}" for child in command.commands]
    places = [_place(command, place, argument) for place, argument in enumerate(command.arguments)]
    return ["", *below, *filter(None, places), *(_option(command, option) for option in command.options)]


def _at(command: Command, count: int | None = None) -> str:
    condition = f"__rillevents_at {quoted(command.path)}" + ("" if count is None else f" {count}")
    return f"complete -c rillevents -n {quoted(condition)}"


def _place(command: Command, place: int, argument: Argument) -> str:
    offered = _offered(argument.values)
    return f"{_at(command, place)} {offered}" if offered else ""


def _option(command: Command, option: Option) -> str:
    flags = [f"-s {flag[1:]}" if len(flag) == 2 else f"-l {flag[2:]}" for flag in option.flags]
    values = f" -r {_offered(option.values)}".rstrip() if option.values else ""
    # -r alone would offer every file there is.
    values += " -f" if option.values and "" not in option.values.files else ""
    return f"{_at(command)} {' '.join(flags)}{values} -d {quoted(option.help)}"


def _offered(values: Values) -> str:
    words = [*values.words, *(f"(__rillevents_files {prefix})" for prefix in values.files if prefix)]
    return " ".join([*(["-F"] if "" in values.files else []), *([f"-a {quoted(' '.join(words))}"] if words else [])])
