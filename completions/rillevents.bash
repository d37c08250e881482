# Completions of rillevents for bash 4 and later.
#   eval "$(rillevents completions bash)"
# Made by `python -m rillevents.cli.completion`; changes belong there.

# What may stand after the command $1: commands or arguments, options, and what those take.
_rillevents_command() {
    commands='' options='' takes='' arguments=''
    case $1 in
    '')
        commands='flush status events stats serve demo completions help record spool id telemetry config'
        options='-q --quiet --version -h --help'
        ;;
    'flush')
        options='--to --timeout --no-wait --dry-run --ca-cert --on-error --json -q --quiet --version -h --help'
        takes=' --to:destination --timeout:text --ca-cert:file --on-error:on_error '
        ;;
    'status')
        options='--json -q --quiet --version -h --help'
        ;;
    'events')
        options='--store --type --name --since --until -a --attr --limit -f --follow --count --ndjson --json -q --quiet --version -h --help'
        takes=' --store:file --type:event_type --name:text --since:text --until:text -a:attribute --attr:attribute --limit:text '
        ;;
    'stats')
        options='--store --type --name --since --json -q --quiet --version -h --help'
        takes=' --store:file --type:event_type --name:text --since:text '
        ;;
    'serve')
        options='--host --port --store --to --keep --user --password-file --allow-host --allow-origin --tls-cert --tls-key --json -q --quiet --version -h --help'
        takes=' --host:text --port:text --store:file --to:destination --keep:text --user:text --password-file:file --allow-host:text --allow-origin:text --tls-cert:file --tls-key:file '
        ;;
    'demo')
        options='-q --quiet --version -h --help'
        ;;
    'completions')
        options='-q --quiet --version -h --help'
        arguments='shell'
        ;;
    'help')
        options='-q --quiet --version -h --help'
        arguments='topic'
        ;;
    'record')
        commands='behavioral metric log event raw'
        options='-q --quiet --version -h --help'
        ;;
    'record behavioral')
        options='-a --attr --attrs --time --id --user-id --print --dry-run --durable --on-error -q --quiet --version -h --help'
        takes=' -a:attribute --attr:attribute --attrs:attributes --time:text --id:text --user-id:text --on-error:on_error '
        arguments='name'
        ;;
    'record metric')
        options='-a --attr --attrs --time --id --user-id --print --dry-run --durable --on-error -q --quiet --version -h --help'
        takes=' -a:attribute --attr:attribute --attrs:attributes --time:text --id:text --user-id:text --on-error:on_error '
        arguments='text text'
        ;;
    'record log')
        options='-a --attr --attrs --time --id --user-id --print --dry-run --durable --on-error -q --quiet --version -h --help'
        takes=' -a:attribute --attr:attribute --attrs:attributes --time:text --id:text --user-id:text --on-error:on_error '
        arguments='text text'
        ;;
    'record event')
        options='-a --attr --attrs --time --id --user-id --print --dry-run --durable --on-error -q --quiet --version -h --help'
        takes=' -a:attribute --attr:attribute --attrs:attributes --time:text --id:text --user-id:text --on-error:on_error '
        arguments='event_type text'
        ;;
    'record raw')
        options='--fill --type --name --on-error --json -q --quiet --version -h --help'
        takes=' --type:event_type --name:text --on-error:on_error '
        arguments='file'
        ;;
    'spool')
        commands='path export import rejected retry purge'
        options='-q --quiet --version -h --help'
        ;;
    'spool path')
        options='-q --quiet --version -h --help'
        ;;
    'spool export')
        options='-q --quiet --version -h --help'
        ;;
    'spool import')
        options='--json -q --quiet --version -h --help'
        arguments='file'
        ;;
    'spool rejected')
        options='--json -q --quiet --version -h --help'
        ;;
    'spool retry')
        options='--json -q --quiet --version -h --help'
        ;;
    'spool purge')
        options='--yes --json -q --quiet --version -h --help'
        ;;
    'id')
        commands='show reset'
        options='-q --quiet --version -h --help'
        ;;
    'id show')
        options='--json -q --quiet --version -h --help'
        ;;
    'id reset')
        options='--json -q --quiet --version -h --help'
        ;;
    'telemetry')
        commands='status on off'
        options='-q --quiet --version -h --help'
        ;;
    'telemetry status')
        options='--json -q --quiet --version -h --help'
        ;;
    'telemetry on')
        options='--json -q --quiet --version -h --help'
        ;;
    'telemetry off')
        options='--purge --json -q --quiet --version -h --help'
        ;;
    'config')
        commands='path list get set unset'
        options='-q --quiet --version -h --help'
        ;;
    'config path')
        options='-q --quiet --version -h --help'
        ;;
    'config list')
        options='--json -q --quiet --version -h --help'
        ;;
    'config get')
        options='--json -q --quiet --version -h --help'
        arguments='setting'
        ;;
    'config set')
        options='--json -q --quiet --version -h --help'
        arguments='setting text'
        ;;
    'config unset')
        options='--json -q --quiet --version -h --help'
        arguments='setting'
        ;;
    esac
}

# What a value of the kind $1 may be: words, and the prefixes after which a file's name may stand.
_rillevents_kind() {
    case $1 in
    attribute) words='service_name= service_version= service_commit= is_dev= install_id= user_id=' ;;
    attributes) words='@-' prefixes=('@') ;;
    destination) words='intake https:// http://' prefixes=('file:') ;;
    event_type) words='behavioral metric log' ;;
    file) prefixes=('') ;;
    name) words='install-success app-start login-start login-success deploy-start deploy-success ghconnected-start ghconnected-success dataaccess-start dataaccess-success' ;;
    on_error) words='warn fail ignore' ;;
    setting) words='intake.url intake.user intake.password intake.password_file intake.password_command intake.token filter.drop_types filter.drop_names filter.drop_attributes redact.keys redact.values redact.enabled spool.max_bytes spool.durable flush.to flush.batch_events flush.batch_bytes flush.compression flush.stall_timeout kafka.key attributes.' ;;
    shell) words='bash zsh fish powershell' ;;
    topic) words='ci configuration consent duckdb events exit-codes faults flushing kafka library limits page performance quickstart recording redaction scale serve spool stats testing' ;;
    esac
}

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
