"""The completion script for bash 4 and later; it does without the package bash-completion."""

from __future__ import annotations

from rillevents.cli.completion.tree import Command, Values

_HEAD = """\
# Completions of rillevents for bash 4 and later.
#   eval "$(rillevents completions bash)"
# Made by `python -m rillevents.cli.completion`; changes belong there.
"""

_ENGINE = r"""
# Say in `kind` what the option $1 takes; nothing where it takes no value.
_rillevents_takes() {
    kind=''
    if [[ $takes == *" $1:"* ]]; then
        kind=${takes#*" $1:"}
        kind=${kind%% *}
    fi
}

# Collect in `line` the words before the cursor. COMP_WORDS will not do: it is split at = : and @ too.
_rillevents_line() {
    local LC_ALL=C
    local rest=${COMP_LINE:0:COMP_POINT} part i blank=$' \t\n'
    line=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        part=${COMP_WORDS[i]}
        if [[ $i == 0 || $rest == [$blank]* ]]; then
            rest=${rest#"${rest%%[!$blank]*}"}
            line+=('')
        fi
        [[ $rest == "$part"* ]] || part=$rest
        line[${#line[@]}-1]+=$part
        rest=${rest#"$part"}
    done
}

# Take note of the word $1, which stands before the one at the cursor.
_rillevents_pass() {
    local word=$1 i
    if [[ $kind ]]; then
        kind=''
    elif [[ $word =~ ^[0-9\&]*[\<\>]+[\&\|]?$ ]]; then
        kind=file
    elif [[ $word =~ ^[0-9\&]*[\<\>] ]]; then
        :
    elif [[ ! $ended && $word == -- ]]; then
        ended=1
    elif [[ ! $ended && $word == --* ]]; then
        [[ $word == *=* ]] || _rillevents_takes "$word"
    elif [[ ! $ended && $word == -[!0-9]* ]]; then
        for ((i = 1; i < ${#word}; i++)); do
            _rillevents_takes "-${word:i:1}"
            [[ ! $kind ]] || break
        done
        ((i >= ${#word} - 1)) || kind=''
    elif [[ $commands ]]; then
        at+=" $word"
        _rillevents_command "${at# }"
    else
        ((count += 1))
    fi
}

# Offer what begins with $2: the words of the kind $1 and the files that may stand there, each after the prefix $3.
_rillevents_offer() {
    local words='' prefixes=() prefix known
    _rillevents_kind "$1"
    for known in $words; do
        [[ $known != "$2"* ]] || COMPREPLY+=("$3$known")
    done
    for prefix in "${prefixes[@]}"; do
        if [[ $2 == "$prefix"* ]]; then
            _rillevents_files "${2#"$prefix"}" "$3$prefix"
        elif [[ $prefix == "$2"* ]]; then
            COMPREPLY+=("$3$prefix")
        fi
    done
}

# Offer the files that begin with $1, each after the prefix $2.
_rillevents_files() {
    local file
    # Only where the prefix is no part of what is replaced can readline tell that these are files, and quote them.
    [[ $head != *"$2" ]] || compopt -o filenames 2>/dev/null
    while IFS= read -r file; do
        if [[ $head != *"$2" ]]; then
            [[ ! -d $file ]] || file+=/
            [[ $word == *[\"\']* ]] || printf -v file %q "$file"
        fi
        COMPREPLY+=("$2$file")
    done < <(compgen -f -- "$1")
}

# Offer those of the words $1 that begin with $2.
_rillevents_words() {
    local known
    for known in $1; do
        [[ $known != "$2"* ]] || COMPREPLY+=("$known")
    done
}

_rillevents() {
    local IFS=$' \t\n' line=() at='' kind='' ended='' count=0 commands options takes arguments current head word
    COMPREPLY=()
    _rillevents_line
    _rillevents_command ''
    for word in "${line[@]:1:${#line[@]}-2}"; do
        _rillevents_pass "$word"
    done
    word=${line[${#line[@]}-1]}
    current=${word//[\"\']/}
    # Readline puts the answers in the place of $2, which may be only the end of the word: what is after the last = or :
    head=${current%"$2"}
    arguments=($arguments)
    if [[ $kind ]]; then
        _rillevents_offer "$kind" "$current" ''
    elif [[ $current =~ ^[0-9\&]*[\<\>]+ ]]; then
        _rillevents_offer file "${current#"${BASH_REMATCH[0]}"}" "${BASH_REMATCH[0]}"
    elif [[ ! $ended && $current == --*=* ]]; then
        _rillevents_takes "${current%%=*}"
        _rillevents_offer "$kind" "${current#*=}" "${current%%=*}="
    elif [[ ! $ended && $current == -* ]]; then
        _rillevents_words "$options" "$current"
    elif [[ $commands ]]; then
        _rillevents_words "$commands" "$current"
    elif ((count < ${#arguments[@]})); then
        _rillevents_offer "${arguments[count]}" "$current" ''
    elif [[ ! $ended ]]; then
        _rillevents_words "$options" "$current"
    fi
    COMPREPLY=("${COMPREPLY[@]#"$head"}")
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=:/@.] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}

complete -F _rillevents rillevents
"""


def bash(root: Command) -> str:
    """Return the script for bash."""
    return "\n".join([_HEAD, *_commands(root), "", *_kinds(root)]) + "\n" + _ENGINE


def _commands(root: Command) -> list[str]:
    lines = [
        "# What may stand after the command $1: commands or arguments, options, and what those take.",
        "_rillevents_command() {",
        "    commands='' options='' takes='' arguments=''",
        "    case $1 in",
    ]
    for command in root.walk():
        lines += [f"    '{command.path}')", *(f"        {line}" for line in _table(command)), "        ;;"]
    return [*lines, "    esac", "}"]


def _table(command: Command) -> list[str]:
    takes = [f"{flag}:{o.values.kind}" for o in command.options if o.values for flag in o.flags]
    table = {
        "commands": " ".join(below.name for below in command.commands),
        "options": " ".join(flag for option in command.options for flag in option.flags),
        "takes": f" {' '.join(takes)} " if takes else "",
        "arguments": " ".join(argument.values.kind for argument in command.arguments),
    }
    return [f"{name}='{text}'" for name, text in table.items() if text]


def _kinds(root: Command) -> list[str]:
    lines = [
        "# What a value of the kind $1 may be: words, and the prefixes after which a file's name may stand.",
        "_rillevents_kind() {",
        "    case $1 in",
    ]
    return [*lines, *(f"    {values.kind}) {_kind(values)} ;;" for values in root.values()), "    esac", "}"]


def _kind(values: Values) -> str:
    words = [f"words='{' '.join(values.words)}'"] if values.words else []
    prefixes = " ".join(f"'{prefix}'" for prefix in values.files)
    return " ".join([*words, *([f"prefixes=({prefixes})"] if values.files else [])])
