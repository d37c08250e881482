#!/bin/sh
# Records events without rillevents: plain `record` alone, into a file. Written by `rillevents shell-init sh --standalone FILE`
# (rillevents {{VERSION}}), to be kept beside the scripts that call it; more: `rillevents help shell`.
#
#   sh FILE record behavioral NAME [-a KEY=VALUE]...          also: metric NAME VALUE, log NAME [MESSAGE], event TYPE NAME
#
# The events go to $RILLEVENTS_EVENTS_FILE, else to rillevents.ndjson in the current folder. Later, where rillevents is installed:
#   rillevents spool import rillevents.ndjson && rillevents flush
#
# RILLEVENTS_INSTALL_ID, RILLEVENTS_USER_ID, RILLEVENTS_SERVICE_NAME|VERSION|COMMIT and RILLEVENTS_IS_DEV are on every event.
# Nothing is recorded with DO_NOT_TRACK=1 or RILLEVENTS_TELEMETRY=off. RILLEVENTS_ON_ERROR and RILLEVENTS_QUIET mean what they always do.
if [ -n "${ZSH_VERSION-}" ]; then emulate sh; fi
set -uf
set +ex
# Texts are bytes, whatever the locale.
LC_ALL=C
export LC_ALL
umask 077
unset CDPATH
IFS='
'
newline='
'

say() {
  case $(lower "${RILLEVENTS_QUIET-}") in
    '' | 0 | false | no | off) printf 'rillevents: %s\n' "$1" >&2 ;;
  esac
}

lower() { printf '%s' "$1" | tr -d ' \t\r\n' | tr ABCDEFGHIJKLMNOPQRSTUVWXYZ abcdefghijklmnopqrstuvwxyz; }

wrong() {
  if [ "$(lower "${RILLEVENTS_ON_ERROR-}")" = ignore ]; then
    exit 0
  fi
  printf 'rillevents: %s\n' "$1" >&2
  exit 2
}

failed() {
  say "event not recorded: $1"
  if [ "$(lower "${RILLEVENTS_ON_ERROR-}")" = fail ]; then
    exit 73
  fi
  exit 0
}

# Whether $1 is UTF-8: by the numbers of its bytes.
is_utf8() {
  left=0 low=128 high=191
  for byte in $(printf '%s' "$1" | od -An -v -tu1 | tr -s ' ' '\n'); do
    if [ "$left" -gt 0 ]; then
      if [ "$byte" -lt "$low" ] || [ "$byte" -gt "$high" ]; then return 1; fi
      left=$((left - 1)) low=128 high=191
    elif [ "$byte" -lt 128 ]; then
      :
    elif [ "$byte" -lt 194 ]; then
      return 1
    elif [ "$byte" -lt 224 ]; then
      left=1
    elif [ "$byte" -lt 240 ]; then
      left=2
      case $byte in 224) low=160 ;; 237) high=159 ;; esac
    elif [ "$byte" -lt 245 ]; then
      left=3
      case $byte in 240) low=144 ;; 244) high=143 ;; esac
    else
      return 1
    fi
  done
  [ "$left" = 0 ]
}

# $1 as a text of JSON, in $json.
as_json() {
  case $1 in *[!\ -~]*) is_utf8 "$1" || wrong "the event holds text that is not valid Unicode; pass UTF-8" ;; esac
  json='' rest=$1
  while :; do
    case $rest in
      *[\"\\[:cntrl:]]*) ;;
      *) break ;;
    esac
    plain=${rest%%[\"\\[:cntrl:]]*}
    rest=${rest#"$plain"}
    after=${rest#?}
    char=${rest%"$after"} rest=$after
    case $char in
      \" | \\) char=\\$char ;;
      "$newline") char='\n' ;;
      "$(printf '\177')") ;;
      *) char=$(printf '\\u%04x' "'$char") ;;
    esac
    json=$json$plain$char
  done
  json="\"$json$rest\""
}

# An attribute: $1 its key, $2 its value, in JSON already with $3. The last of a key wins. What may be a secret is not kept.
attribute() {
  if [ -z "$1" ]; then wrong "an attribute has no name; write -a KEY=VALUE"; fi
  case " event_id event_time event_type event_name $taken " in
    *" $1 "*) wrong "'$1' is set by rillevents itself; give the attribute another name" ;;
  esac
  as_json "$1"
  key=$json
  if is_secret "$1" "$2"; then
    json='"[redacted]"' redacted=$((redacted + 1))
  elif [ -n "${3-}" ]; then
    json=$2
  else
    as_json "$2"
  fi
  # Each on a line of its own: neither a key nor a value in JSON has a newline.
  kept=''
  for line in $attributes; do
    case $line in "$key:"*) ;; *) kept=$kept$line$newline ;; esac
  done
  attributes=$kept$key:$json$newline
}

is_secret() {
  case $2 in '' | true | false | null) return 1 ;; esac
  case $(printf '%s' "$1" | tr -d '_-' | tr ABCDEFGHIJKLMNOPQRSTUVWXYZ abcdefghijklmnopqrstuvwxyz) in
    {{KEYS}}) return 0 ;;
  esac
  case $2 in
    *@*://* | *://*@*) return 0 ;;
    ???????????????*) ;;
    *) return 1 ;;
  esac
  case $2 in
    {{MARKS}}) return 0 ;;
  esac
  return 1
}

is_number() {
  digits=${1#-}
  whole=${digits%%.*} part=${digits#*.}
  case $whole$part in *[!0123456789]*) return 1 ;; esac
  case $digits in *.*) [ -n "$part" ] || return 1 ;; esac
  case $whole in '' | 0?*) return 1 ;; esac
}

typed() {
  case $2 in
    true | false | null) ;;
    *) is_number "$2" || wrong "'$2' is not a number, true, false or null: this script records no other typed values" ;;
  esac
  attribute "$1" "$2" json
}

check_name() {
  case $2 in *[![:space:]]*) ;; *) wrong "$1 must be a non-empty string" ;; esac
  if [ "${#2}" -gt 1024 ]; then wrong "$1 has ${#2} bytes, more than 1024"; fi
}

# Both end the script where telemetry is off.
check_consent() {
  case $(lower "${DO_NOT_TRACK-}") in '' | 0 | off | false | no) ;; *) exit 0 ;; esac
  case $(lower "${RILLEVENTS_TELEMETRY-}") in
    '' | 1 | on | true | yes) [ -z "${RILLEVENTS_TELEMETRY-}" ] || [ -n "$(lower "$RILLEVENTS_TELEMETRY")" ] || exit 0 ;;
    0 | off | false | no) exit 0 ;;
    *)
      say "RILLEVENTS_TELEMETRY='$RILLEVENTS_TELEMETRY' is neither on nor off: telemetry is off"
      exit 0
      ;;
  esac
}

if [ "${1-}" != record ]; then
  wrong "this script only records; elsewhere run: rillevents spool import FILE && rillevents flush"
fi
form=${2-} attributes='' redacted=0 count=0 name='' second='' given='' taken=''
case $form in
  metric) taken='value name time' ;;
  behavioral | log | event) ;;
  *) wrong "write: record behavioral NAME, record metric NAME VALUE, record log NAME [MESSAGE] or record event TYPE NAME" ;;
esac
shift 2
while [ $# -gt 0 ]; do
  word=$1
  shift
  case $word in
    -a | --attr)
      if [ $# = 0 ]; then wrong "$word needs KEY=VALUE"; fi
      given=$1
      shift
      ;;
    --attr=*) given=${word#--attr=} ;;
    -q | --quiet)
      RILLEVENTS_QUIET=1
      continue
      ;;
    -[0123456789]*)
      if [ "$form" != metric ]; then wrong "this script does not know $word"; fi
      given=''
      ;;
    -*) wrong "this script does not know $word" ;;
    *) given='' ;;
  esac
  case $word in
    -a | --attr | --attr=*)
      case $given in
        *=*) ;;
        *) wrong "'$given' is not a valid attribute; write -a KEY=VALUE" ;;
      esac
      case ${given%%=*} in
        *:) typed "${given%%:=*}" "${given#*=}" ;;
        *) attribute "${given%%=*}" "${given#*=}" ;;
      esac
      ;;
    *)
      count=$((count + 1))
      case $count in 1) name=$word ;; *) second=$word ;; esac
      ;;
  esac
done
type=$form
case $form/$count in
  behavioral/1 | log/1) ;;
  log/2) attribute message "$second" ;;
  metric/2) is_number "$second" || wrong "VALUE '$second' is not a number that this script knows; write it like 45 or -0.5" ;;
  event/2) type=$name name=$second ;;
  *) wrong "write: record behavioral NAME, record metric NAME VALUE, record log NAME [MESSAGE] or record event TYPE NAME" ;;
esac
check_name TYPE "$type"
check_name NAME "$name"
as_json "$type"
type=$json
as_json "$name"
name=$json
check_consent

own=$attributes attributes='' taken=''
if [ -n "${RILLEVENTS_INSTALL_ID-}" ]; then attribute install_id "$RILLEVENTS_INSTALL_ID"; fi
if [ -n "${RILLEVENTS_SERVICE_NAME-}" ]; then attribute service_name "$RILLEVENTS_SERVICE_NAME"; fi
if [ -n "${RILLEVENTS_SERVICE_VERSION-}" ]; then attribute service_version "$RILLEVENTS_SERVICE_VERSION"; fi
if [ -n "${RILLEVENTS_SERVICE_COMMIT-}" ]; then attribute service_commit "$RILLEVENTS_SERVICE_COMMIT"; fi
if [ -n "${RILLEVENTS_USER_ID-}" ]; then attribute user_id "$RILLEVENTS_USER_ID"; fi
case $(lower "${RILLEVENTS_IS_DEV-}") in 1 | true | yes | on) attribute is_dev true json ;; esac
# An event's own attributes win.
shared=''
for line in $attributes; do
  case $newline$own in *"$newline${line%%:*}:"*) ;; *) shared=$shared$line$newline ;; esac
done
attributes=$shared$own

seconds=$(date -u +%s) && at=$(date -u +%Y-%m-%dT%H:%M:%S.%N) || failed "there is no clock"
nanoseconds=${at#*.}
case $nanoseconds in
  *[!0123456789]* | '') at=$(date -u +%Y-%m-%dT%H:%M:%S) nanoseconds=000000000 ;;
  # This and the seconds were read one after the other: the ID may be a second behind the time, no more.
  *) at=${at%%.*} ;;
esac
random=$(od -An -v -tx1 -N10 /dev/urandom | tr -d ' \n')
if [ "${#random}" != 20 ]; then failed "there is no randomness"; fi
milliseconds=${nanoseconds%??????}
while :; do case $milliseconds in 0?*) milliseconds=${milliseconds#0} ;; *) break ;; esac; done
stamp=$(printf '%012x' "$((seconds * 1000 + milliseconds))")
rest=${stamp#????????} tail=${random#????????}
first=${random%"${random#???}"} second_part=${random#???}
second_part=${second_part%"${second_part#???}"}
id=${stamp%????}-$rest-7$first-8$second_part-$tail

if [ "$form" = metric ]; then
  attributes=$attributes\"value\":$second$newline\"name\":$name$newline\"time\":\"${at}Z\"$newline
fi
if [ "$redacted" != 0 ]; then attributes=$attributes\"redacted\":$redacted$newline; fi
event="{\"event_id\":\"$id\",\"event_time\":\"$at.${nanoseconds}Z\",\"event_type\":$type,\"event_name\":$name"
for line in $attributes; do event=$event,$line; done
event=$event}
if [ "${#event}" -gt 32768 ]; then failed "it has ${#event} bytes, more than 32768"; fi
file=${RILLEVENTS_EVENTS_FILE:-rillevents.ndjson}
# A script that was killed may have left half a line.
if [ -s "$file" ] && [ -n "$(tail -c 1 "$file")" ]; then event=$newline$event; fi
# One write: several scripts may write into one file.
{ printf '%s\n' "$event" >>"$file"; } 2>/dev/null || failed "$file cannot be written"
