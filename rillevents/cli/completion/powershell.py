"""The completion script for PowerShell 5.1 and later."""

from __future__ import annotations

from rillevents.cli.completion.tree import Command, Values

_HEAD = """\
# Completions of rillevents for PowerShell:
#   rillevents completions powershell | Out-String | Invoke-Expression
# Made by `python -m rillevents.cli.completion`; changes belong there.
"""

_OPEN = """\
Register-ArgumentCompleter -Native -CommandName 'rillevents' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
"""

# Where nothing is offered, PowerShell itself offers files: that serves the places where a file stands.
_ENGINE = r"""
    $at = ''
    $count = 0
    $kind = ''
    $ended = $false
    $words = $commandAst.CommandElements | Select-Object -Skip 1 |
        Where-Object { $_.Extent.EndOffset -lt $cursorPosition } | ForEach-Object { $_.Extent.Text }
    foreach ($word in $words) {
        if ($kind) {
            $kind = ''
        } elseif ($ended -or $word -notmatch '^-[^0-9]') {
            $below = "$at $word".Trim()
            if ($commands.ContainsKey($below)) {
                $at = $below
            } else {
                $count += 1
            }
        } elseif ($word -eq '--') {
            $ended = $true
        } else {
            $kind = $commands[$at].Takes[$word]
        }
    }

    $command = $commands[$at]
    $prefix = ''
    $current = $wordToComplete
    $told = $command.Options
    if ($kind) {
        $told = $kinds[$kind]
    } elseif (-not $ended -and $current -match '^(--[^=]+)=(.*)$') {
        $prefix = $Matches[1] + '='
        $current = $Matches[2]
        $told = $kinds["$($command.Takes[$Matches[1]])"]
    } elseif (-not $ended -and $current -match '^-') {
        $told = $command.Options
    } elseif ($command.Commands.Count) {
        $told = if ($count) { @{} } else { $command.Commands }
    } elseif ($count -lt $command.Arguments.Count) {
        $told = $kinds[$command.Arguments[$count]]
    } elseif ($ended) {
        $told = @{}
    }
    foreach ($word in $told.Keys) {
        if ($word.StartsWith($current, [System.StringComparison]::Ordinal)) {
            [System.Management.Automation.CompletionResult]::new($prefix + $word, $word, 'ParameterValue', $told[$word])
        }
    }
}
"""


def powershell(root: Command) -> str:
    """Return the script for PowerShell."""
    kinds = [
        f"        {quoted(values.kind)} = {_table([(word, word) for word in _words(values)])}"
        for values in root.values()
    ]
    commands = [line for command in root.walk() for line in _command(command)]
    tables = ["    $kinds = @{", *kinds, "    }", "    $commands = @{", *commands, "    }"]
    return "\n".join([_HEAD, _OPEN, *tables]) + "\n" + _ENGINE


def quoted(text: str) -> str:
    """Return *text* in single quotes, in which PowerShell knows one escape: the quote twice."""
    # PowerShell takes the curly ones for quotes, too.
    return (
        "'"
        + "".join(character * 2 if character in "'\u2018\u2019\u201a\u201b" else character for character in text)
        + "'"
    )


def _words(values: Values) -> list[str]:
    return [*values.words, *filter(None, values.files)]


def _command(command: Command) -> list[str]:
    takes = [(flag, o.values.kind) for o in command.options if o.values for flag in o.flags]
    tables = {
        "Commands": _table([(below.name, below.help) for below in command.commands]),
        "Options": _table([(flag, option.help) for option in command.options for flag in option.flags]),
        "Takes": _table(takes),
        "Arguments": f"@({', '.join(quoted(argument.values.kind) for argument in command.arguments)})",
    }
    rows = [f"            {name} = {table}" for name, table in tables.items()]
    return [f"        {quoted(command.path)} = @{{", *rows, "        }"]


def _table(pairs: list[tuple[str, str]]) -> str:
    """Return a table that keeps its order; what is told of a word must not be empty."""
    rows = "".join(f"                {quoted(word)} = {quoted(told or word)}\n" for word, told in pairs)
    return f"[ordered]@{{\n{rows}            }}" if rows else "[ordered]@{}"
