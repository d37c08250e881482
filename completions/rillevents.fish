# Completions of rillevents for fish: as rillevents.fish in ~/.config/fish/completions, or
#   rillevents completions fish | source
# Made by `python -m rillevents.cli.completion`; changes belong there.

# The commands.
set -g __rillevents_commands \
    ' flush' \
    ' status' \
    ' events' \
    ' stats' \
    ' serve' \
    ' demo' \
    ' completions' \
    ' help' \
    ' record' \
    ' record behavioral' \
    ' record metric' \
    ' record log' \
    ' record event' \
    ' record raw' \
    ' spool' \
    ' spool path' \
    ' spool export' \
    ' spool import' \
    ' spool rejected' \
    ' spool retry' \
    ' spool purge' \
    ' id' \
    ' id show' \
    ' id reset' \
    ' telemetry' \
    ' telemetry status' \
    ' telemetry on' \
    ' telemetry off' \
    ' config' \
    ' config path' \
    ' config list' \
    ' config get' \
    ' config set' \
    ' config unset'
# The options that take a value.
set -g __rillevents_takes \
    ' flush --to' \
    ' flush --timeout' \
    ' flush --ca-cert' \
    ' flush --on-error' \
    ' events --store' \
    ' events --type' \
    ' events --name' \
    ' events --since' \
    ' events --until' \
    ' events -a' \
    ' events --attr' \
    ' events --limit' \
    ' stats --store' \
    ' stats --type' \
    ' stats --name' \
    ' stats --since' \
    ' serve --host' \
    ' serve --port' \
    ' serve --store' \
    ' serve --to' \
    ' serve --keep' \
    ' serve --user' \
    ' serve --password-file' \
    ' serve --allow-host' \
    ' serve --allow-origin' \
    ' serve --tls-cert' \
    ' serve --tls-key' \
    ' record behavioral -a' \
    ' record behavioral --attr' \
    ' record behavioral --attrs' \
    ' record behavioral --time' \
    ' record behavioral --id' \
    ' record behavioral --user-id' \
    ' record behavioral --on-error' \
    ' record metric -a' \
    ' record metric --attr' \
    ' record metric --attrs' \
    ' record metric --time' \
    ' record metric --id' \
    ' record metric --user-id' \
    ' record metric --on-error' \
    ' record log -a' \
    ' record log --attr' \
    ' record log --attrs' \
    ' record log --time' \
    ' record log --id' \
    ' record log --user-id' \
    ' record log --on-error' \
    ' record event -a' \
    ' record event --attr' \
    ' record event --attrs' \
    ' record event --time' \
    ' record event --id' \
    ' record event --user-id' \
    ' record event --on-error' \
    ' record raw --type' \
    ' record raw --name' \
    ' record raw --on-error'

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


complete -c rillevents -n '__rillevents_at \'\' 0' -a flush -d 'Deliver what is in the spool to its destination, in batches; what is not acknowledged stays'
complete -c rillevents -n '__rillevents_at \'\' 0' -a status -d 'Show identity, consent and who decided it, the spool, the destination and the losses, on one page'
complete -c rillevents -n '__rillevents_at \'\' 0' -a events -d 'Show the events that are in the spool and not yet delivered, or those in a store'
complete -c rillevents -n '__rillevents_at \'\' 0' -a stats -d 'Show how many events there were over time, and percentiles of the values of metrics, in the spool or a store'
complete -c rillevents -n '__rillevents_at \'\' 0' -a serve -d 'Take events over HTTP, from browsers, programs and `flush`, and store them or hand them on, until it is stopped'
complete -c rillevents -n '__rillevents_at \'\' 0' -a demo -d 'Record events as a script would, flush them to an intake on this machine, and show what arrived'
complete -c rillevents -n '__rillevents_at \'\' 0' -a completions -d 'Print the completion script for a shell'
complete -c rillevents -n '__rillevents_at \'\' 0' -a help -d 'Show a page of the manual, or the list of them'
complete -c rillevents -n '__rillevents_at \'\' 0' -a record -d 'Record an event: stored on this machine at once, sent by `rillevents flush`'
complete -c rillevents -n '__rillevents_at \'\' 0' -a spool -d 'Look at the spool, take events out of it and bring them in'
complete -c rillevents -n '__rillevents_at \'\' 0' -a id -d 'Show the install ID, or replace it by a new one'
complete -c rillevents -n '__rillevents_at \'\' 0' -a telemetry -d 'Turn telemetry on or off for good, and see who decided'
complete -c rillevents -n '__rillevents_at \'\' 0' -a config -d 'Show and change the settings in config.toml'
complete -c rillevents -n '__rillevents_at \'\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'flush\'' -l to -r -a 'intake https:// http:// (__rillevents_files file:)' -f -d 'intake, http(s)://…, kafka://…, or file:PATH'
complete -c rillevents -n '__rillevents_at \'flush\'' -l timeout -r -f -d 'Seconds in total'
complete -c rillevents -n '__rillevents_at \'flush\'' -l no-wait -d 'Leave at once if another flush is at it'
complete -c rillevents -n '__rillevents_at \'flush\'' -l dry-run -d 'Print what would be sent, and send nothing'
complete -c rillevents -n '__rillevents_at \'flush\'' -l ca-cert -r -F -d 'Trust this authority, too'
complete -c rillevents -n '__rillevents_at \'flush\'' -l on-error -r -a 'warn fail ignore' -f -d 'What a failure does to the exit code'
complete -c rillevents -n '__rillevents_at \'flush\'' -l json -d 'Print one JSON document'
complete -c rillevents -n '__rillevents_at \'flush\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'flush\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'flush\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'status\'' -l json -d 'Print one JSON document'
complete -c rillevents -n '__rillevents_at \'status\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'status\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'status\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'events\'' -l store -r -F -d 'Look into this store, not the spool'
complete -c rillevents -n '__rillevents_at \'events\'' -l type -r -a 'behavioral metric log' -f -d 'Only this type'
complete -c rillevents -n '__rillevents_at \'events\'' -l name -r -f -d 'Only names like this'
complete -c rillevents -n '__rillevents_at \'events\'' -l since -r -f -d 'Not before: a time, or 90m, 7d ago'
complete -c rillevents -n '__rillevents_at \'events\'' -l until -r -f -d 'Before: a time, or 90m, 7d ago'
complete -c rillevents -n '__rillevents_at \'events\'' -s a -l attr -r -a 'service_name= service_version= service_commit= is_dev= install_id= user_id=' -f -d 'With this attribute'
complete -c rillevents -n '__rillevents_at \'events\'' -l limit -r -f -d 'The newest N'
complete -c rillevents -n '__rillevents_at \'events\'' -s f -l follow -d 'Go on with those that come now'
complete -c rillevents -n '__rillevents_at \'events\'' -l count -d 'Print how many there are'
complete -c rillevents -n '__rillevents_at \'events\'' -l ndjson -d 'Print the lines as they are stored'
complete -c rillevents -n '__rillevents_at \'events\'' -l json -d 'Print one JSON document'
complete -c rillevents -n '__rillevents_at \'events\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'events\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'events\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'stats\'' -l store -r -F -d 'Look into this store, not the spool'
complete -c rillevents -n '__rillevents_at \'stats\'' -l type -r -a 'behavioral metric log' -f -d 'Only this type'
complete -c rillevents -n '__rillevents_at \'stats\'' -l name -r -f -d 'Only names like this'
complete -c rillevents -n '__rillevents_at \'stats\'' -l since -r -f -d 'Not before: a time, or 90m, 7d ago'
complete -c rillevents -n '__rillevents_at \'stats\'' -l json -d 'Print one JSON document'
complete -c rillevents -n '__rillevents_at \'stats\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'stats\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'stats\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'serve\'' -l host -r -f -d 'The address to listen on'
complete -c rillevents -n '__rillevents_at \'serve\'' -l port -r -f -d '0: any that is free'
complete -c rillevents -n '__rillevents_at \'serve\'' -l store -r -F -d 'Keep events in this SQLite file'
complete -c rillevents -n '__rillevents_at \'serve\'' -l to -r -a 'intake https:// http:// (__rillevents_files file:)' -f -d 'Hand them on: intake, spool, http(s)://…, kafka://…, file:PATH'
complete -c rillevents -n '__rillevents_at \'serve\'' -l keep -r -f -d 'Delete what is older: 30d, 12h'
complete -c rillevents -n '__rillevents_at \'serve\'' -l user -r -f -d 'Who sends has to say this name'
complete -c rillevents -n '__rillevents_at \'serve\'' -l password-file -r -F -d 'The user\'s password, or RILLEVENTS_SERVE_PASSWORD'
complete -c rillevents -n '__rillevents_at \'serve\'' -l allow-host -r -f -d 'A name that this server has, too'
complete -c rillevents -n '__rillevents_at \'serve\'' -l allow-origin -r -f -d 'Pages of this origin may send, too'
complete -c rillevents -n '__rillevents_at \'serve\'' -l tls-cert -r -F -d 'Speak TLS with this certificate'
complete -c rillevents -n '__rillevents_at \'serve\'' -l tls-key -r -F -d 'And this key'
complete -c rillevents -n '__rillevents_at \'serve\'' -l json -d 'Print one JSON document'
complete -c rillevents -n '__rillevents_at \'serve\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'serve\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'serve\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'demo\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'demo\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'demo\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'completions\' 0' -a 'bash zsh fish powershell'
complete -c rillevents -n '__rillevents_at \'completions\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'completions\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'completions\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'help\' 0' -a 'ci configuration consent duckdb events exit-codes faults flushing kafka library limits page performance quickstart recording redaction scale serve spool stats testing'
complete -c rillevents -n '__rillevents_at \'help\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'help\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'help\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'record\' 0' -a behavioral -d 'Record what somebody or something did'
complete -c rillevents -n '__rillevents_at \'record\' 0' -a metric -d 'Record a number'
complete -c rillevents -n '__rillevents_at \'record\' 0' -a log -d 'Record a line of log under a name'
complete -c rillevents -n '__rillevents_at \'record\' 0' -a event -d 'Record an event of any type'
complete -c rillevents -n '__rillevents_at \'record\' 0' -a raw -d 'Record NDJSON as it is, byte for byte, a verdict for each bad line; from a pipe, each line as it comes'
complete -c rillevents -n '__rillevents_at \'record\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'record\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'record\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'record behavioral\' 0' -a 'install-success app-start login-start login-success deploy-start deploy-success ghconnected-start ghconnected-success dataaccess-start dataaccess-success'
complete -c rillevents -n '__rillevents_at \'record behavioral\'' -s a -l attr -r -a 'service_name= service_version= service_commit= is_dev= install_id= user_id=' -f -d 'An attribute: text, or JSON after := in place of ='
complete -c rillevents -n '__rillevents_at \'record behavioral\'' -l attrs -r -a '@- (__rillevents_files @)' -f -d 'Attributes as a JSON object, from a file, or from stdin'
complete -c rillevents -n '__rillevents_at \'record behavioral\'' -l time -r -f -d 'When it happened: RFC 3339, or @SECONDS since 1970'
complete -c rillevents -n '__rillevents_at \'record behavioral\'' -l id -r -f -d 'The event\'s ID, in place of a new one'
complete -c rillevents -n '__rillevents_at \'record behavioral\'' -l user-id -r -f -d 'The attribute user_id'
complete -c rillevents -n '__rillevents_at \'record behavioral\'' -l print -d 'Print the event as it was stored'
complete -c rillevents -n '__rillevents_at \'record behavioral\'' -l dry-run -d 'Print the event, and store nothing'
complete -c rillevents -n '__rillevents_at \'record behavioral\'' -l durable -d 'Sync to the disk before returning'
complete -c rillevents -n '__rillevents_at \'record behavioral\'' -l on-error -r -a 'warn fail ignore' -f -d 'What a failure does to the exit code'
complete -c rillevents -n '__rillevents_at \'record behavioral\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'record behavioral\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'record behavioral\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'record metric\'' -s a -l attr -r -a 'service_name= service_version= service_commit= is_dev= install_id= user_id=' -f -d 'An attribute: text, or JSON after := in place of ='
complete -c rillevents -n '__rillevents_at \'record metric\'' -l attrs -r -a '@- (__rillevents_files @)' -f -d 'Attributes as a JSON object, from a file, or from stdin'
complete -c rillevents -n '__rillevents_at \'record metric\'' -l time -r -f -d 'When it happened: RFC 3339, or @SECONDS since 1970'
complete -c rillevents -n '__rillevents_at \'record metric\'' -l id -r -f -d 'The event\'s ID, in place of a new one'
complete -c rillevents -n '__rillevents_at \'record metric\'' -l user-id -r -f -d 'The attribute user_id'
complete -c rillevents -n '__rillevents_at \'record metric\'' -l print -d 'Print the event as it was stored'
complete -c rillevents -n '__rillevents_at \'record metric\'' -l dry-run -d 'Print the event, and store nothing'
complete -c rillevents -n '__rillevents_at \'record metric\'' -l durable -d 'Sync to the disk before returning'
complete -c rillevents -n '__rillevents_at \'record metric\'' -l on-error -r -a 'warn fail ignore' -f -d 'What a failure does to the exit code'
complete -c rillevents -n '__rillevents_at \'record metric\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'record metric\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'record metric\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'record log\'' -s a -l attr -r -a 'service_name= service_version= service_commit= is_dev= install_id= user_id=' -f -d 'An attribute: text, or JSON after := in place of ='
complete -c rillevents -n '__rillevents_at \'record log\'' -l attrs -r -a '@- (__rillevents_files @)' -f -d 'Attributes as a JSON object, from a file, or from stdin'
complete -c rillevents -n '__rillevents_at \'record log\'' -l time -r -f -d 'When it happened: RFC 3339, or @SECONDS since 1970'
complete -c rillevents -n '__rillevents_at \'record log\'' -l id -r -f -d 'The event\'s ID, in place of a new one'
complete -c rillevents -n '__rillevents_at \'record log\'' -l user-id -r -f -d 'The attribute user_id'
complete -c rillevents -n '__rillevents_at \'record log\'' -l print -d 'Print the event as it was stored'
complete -c rillevents -n '__rillevents_at \'record log\'' -l dry-run -d 'Print the event, and store nothing'
complete -c rillevents -n '__rillevents_at \'record log\'' -l durable -d 'Sync to the disk before returning'
complete -c rillevents -n '__rillevents_at \'record log\'' -l on-error -r -a 'warn fail ignore' -f -d 'What a failure does to the exit code'
complete -c rillevents -n '__rillevents_at \'record log\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'record log\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'record log\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'record event\' 0' -a 'behavioral metric log'
complete -c rillevents -n '__rillevents_at \'record event\'' -s a -l attr -r -a 'service_name= service_version= service_commit= is_dev= install_id= user_id=' -f -d 'An attribute: text, or JSON after := in place of ='
complete -c rillevents -n '__rillevents_at \'record event\'' -l attrs -r -a '@- (__rillevents_files @)' -f -d 'Attributes as a JSON object, from a file, or from stdin'
complete -c rillevents -n '__rillevents_at \'record event\'' -l time -r -f -d 'When it happened: RFC 3339, or @SECONDS since 1970'
complete -c rillevents -n '__rillevents_at \'record event\'' -l id -r -f -d 'The event\'s ID, in place of a new one'
complete -c rillevents -n '__rillevents_at \'record event\'' -l user-id -r -f -d 'The attribute user_id'
complete -c rillevents -n '__rillevents_at \'record event\'' -l print -d 'Print the event as it was stored'
complete -c rillevents -n '__rillevents_at \'record event\'' -l dry-run -d 'Print the event, and store nothing'
complete -c rillevents -n '__rillevents_at \'record event\'' -l durable -d 'Sync to the disk before returning'
complete -c rillevents -n '__rillevents_at \'record event\'' -l on-error -r -a 'warn fail ignore' -f -d 'What a failure does to the exit code'
complete -c rillevents -n '__rillevents_at \'record event\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'record event\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'record event\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'record raw\' 0' -F
complete -c rillevents -n '__rillevents_at \'record raw\'' -l fill -d 'Mint what is missing of the four fields'
complete -c rillevents -n '__rillevents_at \'record raw\'' -l type -r -a 'behavioral metric log' -f -d 'The event_type that --fill gives'
complete -c rillevents -n '__rillevents_at \'record raw\'' -l name -r -f -d 'The event_name that --fill gives'
complete -c rillevents -n '__rillevents_at \'record raw\'' -l on-error -r -a 'warn fail ignore' -f -d 'What a failure does to the exit code'
complete -c rillevents -n '__rillevents_at \'record raw\'' -l json -d 'Print one JSON document'
complete -c rillevents -n '__rillevents_at \'record raw\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'record raw\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'record raw\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'spool\' 0' -a path -d 'Print the spool\'s folder'
complete -c rillevents -n '__rillevents_at \'spool\' 0' -a export -d 'Print the events that are not delivered yet as NDJSON, byte for byte what a flush would send; they stay'
complete -c rillevents -n '__rillevents_at \'spool\' 0' -a import -d 'Store exported events; those that the spool still holds, by their ID, are not stored twice'
complete -c rillevents -n '__rillevents_at \'spool\' 0' -a rejected -d 'Show the events that the destination refused for good, and why'
complete -c rillevents -n '__rillevents_at \'spool\' 0' -a retry -d 'Put the rejected events back into the spool, for the next flush to try again'
complete -c rillevents -n '__rillevents_at \'spool\' 0' -a purge -d 'Delete the events that are not delivered yet, and the rejected and damaged ones; they are counted as dropped'
complete -c rillevents -n '__rillevents_at \'spool\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'spool\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'spool\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'spool path\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'spool path\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'spool path\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'spool export\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'spool export\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'spool export\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'spool import\' 0' -F
complete -c rillevents -n '__rillevents_at \'spool import\'' -l json -d 'Print one JSON document'
complete -c rillevents -n '__rillevents_at \'spool import\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'spool import\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'spool import\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'spool rejected\'' -l json -d 'Print one JSON document'
complete -c rillevents -n '__rillevents_at \'spool rejected\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'spool rejected\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'spool rejected\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'spool retry\'' -l json -d 'Print one JSON document'
complete -c rillevents -n '__rillevents_at \'spool retry\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'spool retry\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'spool retry\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'spool purge\'' -l yes -d 'Do not ask; off a terminal nobody is asked'
complete -c rillevents -n '__rillevents_at \'spool purge\'' -l json -d 'Print one JSON document'
complete -c rillevents -n '__rillevents_at \'spool purge\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'spool purge\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'spool purge\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'id\' 0' -a show -d 'Print the install ID; it is made now if there is none, unless telemetry is off'
complete -c rillevents -n '__rillevents_at \'id\' 0' -a reset -d 'Replace the install ID by a new one, for instance in a copy of a virtual machine'
complete -c rillevents -n '__rillevents_at \'id\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'id\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'id\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'id show\'' -l json -d 'Print one JSON document'
complete -c rillevents -n '__rillevents_at \'id show\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'id show\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'id show\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'id reset\'' -l json -d 'Print one JSON document'
complete -c rillevents -n '__rillevents_at \'id reset\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'id reset\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'id reset\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'telemetry\' 0' -a status -d 'Print `on` or `off`, and say who decided'
complete -c rillevents -n '__rillevents_at \'telemetry\' 0' -a on -d 'Turn telemetry on; a variable that turns it off still wins'
complete -c rillevents -n '__rillevents_at \'telemetry\' 0' -a off -d 'Turn telemetry off for good: nothing is recorded or sent any more'
complete -c rillevents -n '__rillevents_at \'telemetry\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'telemetry\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'telemetry\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'telemetry status\'' -l json -d 'Print one JSON document'
complete -c rillevents -n '__rillevents_at \'telemetry status\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'telemetry status\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'telemetry status\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'telemetry on\'' -l json -d 'Print one JSON document'
complete -c rillevents -n '__rillevents_at \'telemetry on\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'telemetry on\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'telemetry on\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'telemetry off\'' -l purge -d 'Delete what is in the spool, too'
complete -c rillevents -n '__rillevents_at \'telemetry off\'' -l json -d 'Print one JSON document'
complete -c rillevents -n '__rillevents_at \'telemetry off\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'telemetry off\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'telemetry off\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'config\' 0' -a path -d 'Print where config.toml is, or would be'
complete -c rillevents -n '__rillevents_at \'config\' 0' -a list -d 'Print what is set, secrets left out'
complete -c rillevents -n '__rillevents_at \'config\' 0' -a get -d 'Print one setting'
complete -c rillevents -n '__rillevents_at \'config\' 0' -a set -d 'Set one setting; a secret is asked for, or read from stdin, and never given as an argument'
complete -c rillevents -n '__rillevents_at \'config\' 0' -a unset -d 'Remove one setting, so that its default holds again'
complete -c rillevents -n '__rillevents_at \'config\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'config\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'config\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'config path\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'config path\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'config path\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'config list\'' -l json -d 'Print one JSON document'
complete -c rillevents -n '__rillevents_at \'config list\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'config list\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'config list\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'config get\' 0' -a 'intake.url intake.user intake.password intake.password_file intake.password_command intake.token filter.drop_types filter.drop_names filter.drop_attributes redact.keys redact.values redact.enabled spool.max_bytes spool.durable flush.to flush.batch_events flush.batch_bytes flush.compression flush.stall_timeout kafka.key attributes.'
complete -c rillevents -n '__rillevents_at \'config get\'' -l json -d 'Print one JSON document'
complete -c rillevents -n '__rillevents_at \'config get\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'config get\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'config get\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'config set\' 0' -a 'intake.url intake.user intake.password intake.password_file intake.password_command intake.token filter.drop_types filter.drop_names filter.drop_attributes redact.keys redact.values redact.enabled spool.max_bytes spool.durable flush.to flush.batch_events flush.batch_bytes flush.compression flush.stall_timeout kafka.key attributes.'
complete -c rillevents -n '__rillevents_at \'config set\'' -l json -d 'Print one JSON document'
complete -c rillevents -n '__rillevents_at \'config set\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'config set\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'config set\'' -s h -l help -d 'Show this message and exit'

complete -c rillevents -n '__rillevents_at \'config unset\' 0' -a 'intake.url intake.user intake.password intake.password_file intake.password_command intake.token filter.drop_types filter.drop_names filter.drop_attributes redact.keys redact.values redact.enabled spool.max_bytes spool.durable flush.to flush.batch_events flush.batch_bytes flush.compression flush.stall_timeout kafka.key attributes.'
complete -c rillevents -n '__rillevents_at \'config unset\'' -l json -d 'Print one JSON document'
complete -c rillevents -n '__rillevents_at \'config unset\'' -s q -l quiet -d 'Nothing on stderr but usage errors'
complete -c rillevents -n '__rillevents_at \'config unset\'' -l version -d 'Print the version'
complete -c rillevents -n '__rillevents_at \'config unset\'' -s h -l help -d 'Show this message and exit'
