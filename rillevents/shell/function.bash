# rillevents in this shell: a plain `rillevents record` appends its event without starting a process; all else runs the command.
# Printed by `rillevents shell-init bash`, which says what it holds: `rillevents help shell`.
# No alias takes part: bash reads the text below after this line.
builtin shopt -q expand_aliases && __rv_aliases=1 || __rv_aliases=
builtin shopt -u expand_aliases
__rv_ready={{READY}} __rv_known='|' __rv_clean=$'\n' __rv_left={{BYTES}} __rv_env={{ENVIRONMENT}} __rv_locale={{LOCALE}}
# The command does not see these: exported without another value, they would change events unseen.
if [[ {{UNEXPORTED}} && $__rv_ready ]]; then __rv_ready=command; fi

__rillevents_run() { builtin command {{COMMAND}} "$@"; }

# What the text in __rv_value is in JSON. Fails where it may hold a secret, or is no UTF-8: that is the command's to find.
__rillevents_text() {
  if [[ {{MARKS}} ]]; then return 1; fi
  if [[ $__rv_more ]]; then
    __rillevents_escaped
  else
    if [[ ${#__rv_clean} -gt 4000 ]]; then __rv_clean=$'\n'; fi
    __rv_clean+=$__rv_value$'\n'
  fi
}

# The same, byte by byte.
__rillevents_escaped() {
  builtin local __rv_here={{LOCALE}}
  builtin local LC_ALL=C 2>/dev/null || return 1
  builtin local __rv_rest="$__rv_value" __rv_char __rv_code
  [[ $LC_ALL == C ]] || return 1
  if [[ $__rv_rest == *[![:ascii:]]* ]]; then
    # The command reads bytes as its locale says; in another locale than before, the function asks anew.
    if [[ $__rv_here != "$__rv_locale" ]]; then __rv_env=; elif [[ ! {{UTF8}} ]]; then return 1; fi
    __rv_more=4
    # Whole characters of UTF-8 become an x; what is left of other bytes is no UTF-8.
    __rv_rest=${__rv_rest//[$'\xc2'-$'\xdf'][$'\x80'-$'\xbf']/x}
    __rv_rest=${__rv_rest//$'\xe0'[$'\xa0'-$'\xbf'][$'\x80'-$'\xbf']/x}
    __rv_rest=${__rv_rest//[$'\xe1'-$'\xec'$'\xee'$'\xef'][$'\x80'-$'\xbf'][$'\x80'-$'\xbf']/x}
    __rv_rest=${__rv_rest//$'\xed'[$'\x80'-$'\x9f'][$'\x80'-$'\xbf']/x}
    __rv_rest=${__rv_rest//$'\xf0'[$'\x90'-$'\xbf'][$'\x80'-$'\xbf'][$'\x80'-$'\xbf']/x}
    __rv_rest=${__rv_rest//[$'\xf1'-$'\xf3'][$'\x80'-$'\xbf'][$'\x80'-$'\xbf'][$'\x80'-$'\xbf']/x}
    __rv_rest=${__rv_rest//$'\xf4'[$'\x80'-$'\x8f'][$'\x80'-$'\xbf'][$'\x80'-$'\xbf']/x}
    [[ $__rv_rest != *[![:ascii:]]* ]] || return 1
  fi
  __rv_value=${__rv_value//'\'/'\\'} __rv_value=${__rv_value//'"'/'\"'}
  __rv_rest=${__rv_rest//[![:cntrl:]]} __rv_rest=${__rv_rest//$'\x7f'}
  while [[ $__rv_rest ]]; do
    __rv_char=${__rv_rest:0:1} __rv_rest=${__rv_rest//"$__rv_char"}
    case $__rv_char in
      $'\n') __rv_code='\n' ;; $'\t') __rv_code='\t' ;; $'\r') __rv_code='\r' ;; $'\b') __rv_code='\b' ;; $'\f') __rv_code='\f' ;;
      *) builtin printf -v __rv_code '\\u%04x' "'$__rv_char" ;;
    esac
    __rv_value=${__rv_value//"$__rv_char"/"$__rv_code"}
  done
}

# A key seen for the first time: fails where it is a secret's, is set by rillevents itself, or needs care of another kind.
__rillevents_key() {
  builtin local LC_ALL=C 2>/dev/null || return 1
  [[ $LC_ALL == C && $1 && $1 != *[!abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-]* ]] || return 1
  builtin local __rv_folded="${1,,}"
  [[ {{REFUSED}} != *"|${__rv_folded//[-_]}|"* ]] || return 1
  (( ${#__rv_known} < 4000 )) || __rv_known='|'
  __rv_known+="$1|"
}

# A word that is no plain argument and no -a: an attribute in the same word, or a negative number.
__rillevents_word() {
  case $__rv_form$__rv_word in
    *--attr) __rv_next=1 ;;
    *--attr=*)
      __rv_word=${__rv_word#--attr=}
      __rv_key=${__rv_word%%=*} __rv_value=${__rv_word#*=}
      __rillevents_attribute
      ;;
    metric-[0123456789]*)
      case $(( ++__rv_count )) in 1) __rv_name=$__rv_word ;; *) __rv_second=$__rv_word ;; esac
      ;;
    *) return 1 ;;
  esac
}

# The attribute in __rv_word, where it is not as plain as most: a new key, a typed value, a long text, one that needs escapes.
__rillevents_attribute() {
  builtin local __rv_typed=
  [[ $__rv_word == *=* ]] || return 1
  if [[ $__rv_key == *: ]]; then __rv_key=${__rv_key%:} __rv_typed=1; fi
  [[ $__rv_own != *",\"$__rv_key\":"* ]] || return 1
  [[ $__rv_known == *"|$__rv_key|"* ]] || __rillevents_key "$__rv_key" || return 1
  if [[ ! $__rv_typed ]]; then
    __rillevents_text || return 1
    __rv_value="\"$__rv_value\""
  else
    case $__rv_value in true | false | null) ;; *) __rillevents_number "$__rv_value" || return 1 ;; esac
  fi
  __rv_own+=",\"$__rv_key\":$__rv_value"
}

# A form that is not behavioral: its type and name, and what its words add.
__rillevents_form() {
  case $__rv_form/$__rv_count in
    log/1) ;;
    event/2) __rv_form=$__rv_name __rv_name=$__rv_second ;;
    metric/2)
      __rillevents_number "$__rv_second" || return
      __rv_value=$__rv_name
      __rillevents_text || return
      # Its time is put in with the time of the event.
      __rv_second=",\"value\":$__rv_second,\"name\":\"$__rv_name\",\"time\":\""
      ;;
    log/2)
      [[ $__rv_own != *',"message":'* ]] || return
      __rv_value=$__rv_second
      __rillevents_text || return
      __rv_own+=",\"message\":\"$__rv_value\""
      ;;
    *) return 1 ;;
  esac
  [[ ${#__rv_form} -lt 257 && $__rv_form == *[!\ ]* ]]
}

# A number that JSON and Python write alike.
__rillevents_number() {
  builtin local __rv_digits="${1#-}"
  builtin local __rv_whole="${__rv_digits%%.*}" __rv_part="${__rv_digits#*.}"
  [[ ${#1} -lt 16 && $__rv_whole && $__rv_part && $__rv_whole$__rv_part != *[!0123456789]* ]] || return 1
  [[ $1 == 0 || $__rv_digits == *.* || $__rv_whole != 0* ]] || return 1
  [[ $__rv_whole == 0 || $__rv_whole != 0* ]] || return 1
  [[ $__rv_digits != *.* || $__rv_part != *0 && $__rv_digits != 0.0000* ]]
}

# A process of its own has a file of its own, whose name never recurs, and IDs of its own.
__rillevents_process() {
  builtin local __rv_one='' __rv_two=''
  if [[ -r /proc/sys/kernel/random/uuid ]]; then
    builtin read -r __rv_one </proc/sys/kernel/random/uuid
    builtin read -r __rv_two </proc/sys/kernel/random/uuid
    __rv_one=${__rv_one//-} __rv_two=${__rv_two//-}
  else
    __rv_one=$(builtin command od -An -N32 -tx1 /dev/urandom) __rv_one=${__rv_one//[!0123456789abcdef]}
    __rv_two=${__rv_one:32} __rv_one=${__rv_one:0:32}
  fi
  [[ ${#__rv_one} == 32 && ${#__rv_two} == 32 ]] || return
  # The end of an ID, but for eight digits that count.
  __rv_random=8${__rv_two:0:3}-${__rv_two:20:4} __rv_counter=$(( 16#${__rv_two:24:8} ))
  __rv_torn=
  __rv_file={{FOLDER}}/{{SLOT}}$__rv_one.ndjson
  __rv_pid=$BASHPID
}

# 0: on, 1: off, 2: the command decides.
__rillevents_consent() {
  builtin local __rv_word=
  [[ -e {{TELEMETRY}} ]] || return 0
  IFS= builtin read -r -d '' __rv_word <{{TELEMETRY}} && return 2
  case $__rv_word in on|on$'\n') return 0 ;; off|off$'\n') return 1 ;; esac
  return 2
} 2>/dev/null

# The second in __rv_key as text, after it: in one variable, so that a trap never sees half of it.
__rillevents_second() {
  builtin local -i __rv_z="__rv_key / 86400 + 719468" __rv_t="__rv_key % 86400" __rv_era __rv_doe __rv_yoe __rv_doy __rv_mp
  (( __rv_era = __rv_z / 146097, __rv_doe = __rv_z - __rv_era * 146097, __rv_yoe = (__rv_doe - __rv_doe / 1460 + __rv_doe / 36524 - __rv_doe / 146096) / 365, 1 ))
  (( __rv_doy = __rv_doe - (365 * __rv_yoe + __rv_yoe / 4 - __rv_yoe / 100), __rv_mp = (5 * __rv_doy + 2) / 153, 1 ))
  (( __rv_doy = __rv_doy - (153 * __rv_mp + 2) / 5 + 1, __rv_mp = __rv_mp < 10 ? __rv_mp + 3 : __rv_mp - 9, __rv_yoe += __rv_era * 400 + (__rv_mp <= 2), 1 ))
  builtin printf -v __rv_now '%s=%04d-%02d-%02dT%02d:%02d:%02d' "$__rv_key" "$__rv_yoe" "$__rv_mp" "$__rv_doy" \
    "$(( __rv_t / 3600 ))" "$(( __rv_t / 60 % 60 ))" "$(( __rv_t % 60 ))"
  __rv_when=$__rv_now
}

# A line that was written while a flusher took the file, which may have read it or not: it is written again, unless the user has
# objected meanwhile. Fails where the command must do it.
__rillevents_again() {
  builtin local __rv_try __rv_no=0
  for __rv_try in 1 2 3 4 5; do
    __rv_torn=
    __rillevents_consent || __rv_no=$?
    case $__rv_no in 1) return 0 ;; 2) return 1 ;; esac
    builtin printf '%s\n' "$__rv_line" 2>&- >>"$__rv_file" || return 1
    if [[ -e $__rv_file && $__rv_number == "$__rv_counter" ]]; then return 0; fi
    __rv_number=$__rv_counter
  done
  return 1
}

# What the function has not recorded itself; the words are those of the command.
__rillevents_else() {
  builtin local __rv_no=0
  if [[ $__rv_step == words ]]; then
    # Where a shell ignores case, or sorts as a language does, patterns say nothing about keys and bytes; and where local variables
    # inherit, an event would begin with the words of another.
    if [[ a != A && $BASHOPTS == *globasciiranges* && $BASHOPTS != *localvar_inherit* ]]; then __rv_options=$BASHOPTS; fi
    __rillevents_run "$@"
  elif [[ $__rv_step == again ]]; then
    # Some umask keeps us from our own file: the line is there, and the next one goes through the command.
    if [[ $__rv_number == "$__rv_counter" && ! $__rv_torn && -e $__rv_file && ! -w $__rv_file ]]; then return 0; fi
    __rv_number=$__rv_counter
    if ! __rillevents_again; then __rillevents_run "$@" --id "${__rv_line:13:36}" --time "${__rv_line:65:30}"; fi
  elif [[ $__rv_step == stored ]]; then
    # A part of the line may be there: the next one starts behind a newline.
    __rv_torn=$'\n'
    __rillevents_run "$@" --id "${__rv_line:13:36}" --time "${__rv_line:65:30}"
  elif [[ ! ( $__rv_ready && $__rv_now == "$__rv_env" && $__rv_left -gt 0 {{UNCHANGED}} ) ]]; then
    if [[ $__rv_waits != "=$__rv_now" ]]; then
      # It is worth asking what events hold now only if it stays so: this one goes through the command.
      __rv_waits="=$__rv_now"
      __rillevents_run "$@"
      return
    fi
    __rv_waits=
    __rv_line=$(__rillevents_run shell-init bash </dev/null 2>/dev/null) && [[ $__rv_line ]] && builtin eval "$__rv_line"
    if [[ ! $__rv_ready ]]; then __rv_ready=command; fi
    rillevents "$@"
  else
    __rillevents_consent || __rv_no=$?
    if [[ $__rv_no == 1 || $__rv_ready == off ]]; then return 0; fi
    # A process that records once gets no file: a thousand subshells would make a thousand.
    if [[ $__rv_no == 0 && $__rv_ready == ready && $__rv_pid != "$BASHPID" ]]; then __rillevents_process; fi
    # With [flush] auto, one event an interval goes through the command, which delivers.
    __rv_handed=$EPOCHSECONDS
    # On a terminal the command says once of a name that it looks mistyped.
    if [[ ${#__rv_told} -gt 4000 ]]; then __rv_told=; fi
    __rv_told+="|$__rv_name|"
    __rillevents_run "$@"
  fi
}

# Bash copies a function before each call: what is rare stands above, and here as little as possible. Each local costs, too:
# those of the words serve again for the time.
rillevents() {
  builtin local - __rv_word __rv_key __rv_value __rv_more __rv_form="${2-}" __rv_name __rv_second __rv_count=0 __rv_next \
    __rv_own __rv_now __rv_number __rv_line __rv_step=words
  builtin set +aeux
  if [[ ${1-} == record && $# -gt 2 && $BASHOPTS == "$__rv_options" ]]; then
    # Whether any word needs more than to be put between quotes.
    if [[ $* == *[!]\ !#-[^-~]* ]]; then __rv_more=1; fi
    if [[ $3 != -* ]]; then __rv_name=$3 __rv_count=1; fi
    for __rv_word in "${@:__rv_count + 3}"; do
      if [[ $__rv_next ]]; then
        __rv_next= __rv_key=${__rv_word%%=*} __rv_value=${__rv_word#*=}
        # A known key, once (no quote in a value stands behind a comma), and a text that is too short for a secret or was looked at before.
        if [[ ! $__rv_more && $__rv_word == *=* && $__rv_known == *"|$__rv_key|"* && $__rv_own != *",\"$__rv_key\":"* &&
          ( ${#__rv_value} -lt 16 && $__rv_value != *@* || $__rv_clean == *$'\n'"$__rv_value"$'\n'* ) ]]; then
          __rv_own+=",\"$__rv_key\":\"$__rv_value\""
        else
          __rillevents_attribute || __rv_count=9
        fi
      elif [[ $__rv_word == -a ]]; then
        __rv_next=1
      elif [[ $__rv_word == -* ]]; then
        __rillevents_word || __rv_count=9
      elif (( __rv_count++ )); then
        __rv_second=$__rv_word
      else
        __rv_name=$__rv_word
      fi
    done
    if { [[ $__rv_form/$__rv_count == behavioral/1 ]] || __rillevents_form; } &&
      [[ ! $__rv_next && ${#__rv_name} -lt 257 && $__rv_name == *[!\ ]* && ( ! $__rv_more || $__rv_form$__rv_name != *[!]\ !#-[^-~]* ) ]]; then
      # What the events of this shell hold depends on variables, files, and the room in the spool. And a process has its own file.
      __rv_now={{ENVIRONMENT}} __rv_step=asked
      if [[ $__rv_ready == ready && $__rv_now == "$__rv_env" && $__rv_pid == "$BASHPID" && $__rv_left -gt 0 && ( ! -t 2 || $__rv_form != behavioral || $__rv_told == *"|$__rv_name|"* ) {{UNCHANGED}}{{DUE}} ]] &&
        { [[ ! -e {{TELEMETRY}} ]] || __rillevents_consent; }; then
        __rv_word=$EPOCHREALTIME
        __rv_key=${__rv_word%%[!0-9]*} __rv_word=${__rv_word: -6}
        if [[ $__rv_when == "$__rv_key="* ]]; then __rv_now=$__rv_when; else __rillevents_second; fi
        if [[ $2 == metric ]]; then __rv_own+="$__rv_second${__rv_now#*=}Z\""; fi
        (( __rv_number = __rv_counter = __rv_counter + 1 & 4294967295, __rv_count = 1$__rv_word - 1000000, __rv_key = __rv_key * 1000 + __rv_count / 1000,
          __rv_value = __rv_key >> 16, __rv_key &= 65535, __rv_count = __rv_count % 1000 * 4096 / 1000, 1 ))
        builtin printf -v __rv_line '%08x-%04x-7%03x-%s%08x' "$__rv_value" "$__rv_key" "$__rv_count" "$__rv_random" "$__rv_number"
        __rv_line="{\"event_id\":\"$__rv_line\",\"event_time\":\"${__rv_now#*=}.${__rv_word}000Z\",\"event_type\":\"$__rv_form\",\"event_name\":\"$__rv_name\""{{ATTRIBUTES}}$__rv_own}
        # Longer lines are written in pieces. And a clock that somebody has unset is none.
        if (( ${#__rv_line} * ${__rv_more:-1} + {{WIDER}} < 4096 && ${#__rv_word} == 6 && (__rv_left -= ${#__rv_line}, 1) )); then
          __rv_step=stored
          if builtin printf '%s\n' "$__rv_torn$__rv_line" 2>&- >>"$__rv_file"; then
            # Still there: whoever takes the file from now on reads this line. A trap's own event may have made it anew: the number.
            if [[ -w $__rv_file && $__rv_number == "$__rv_counter" && ! $__rv_torn ]]; then return 0; fi
            __rv_step=again
          fi
        else
          __rv_step=words
        fi
      fi
    fi
  fi
  __rillevents_else "$@"
}

builtin : "${__rv_waits=}" "${__rv_pid=}" "${__rv_file=}" "${__rv_random=0}" "${__rv_torn=}" "${__rv_counter=0}" "${__rv_told=}" "${__rv_when=}"
# Older than 5.0: it has no clock.
if [[ ! ${EPOCHREALTIME-} ]]; then rillevents() { __rillevents_run "$@"; }; fi
if [[ $__rv_aliases ]]; then builtin shopt -s expand_aliases; fi
builtin unset __rv_aliases
__rv_options=
if [[ a != A && $BASHOPTS == *globasciiranges* && $BASHOPTS != *localvar_inherit* ]]; then __rv_options=$BASHOPTS; fi
