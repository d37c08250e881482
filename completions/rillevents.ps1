# Completions of rillevents for PowerShell:
#   rillevents completions powershell | Out-String | Invoke-Expression
# Made by `python -m rillevents.cli.completion`; changes belong there.

Register-ArgumentCompleter -Native -CommandName 'rillevents' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $kinds = @{
        'attribute' = [ordered]@{
                'service_name=' = 'service_name='
                'service_version=' = 'service_version='
                'service_commit=' = 'service_commit='
                'is_dev=' = 'is_dev='
                'install_id=' = 'install_id='
                'user_id=' = 'user_id='
            }
        'attributes' = [ordered]@{
                '@-' = '@-'
                '@' = '@'
            }
        'destination' = [ordered]@{
                'intake' = 'intake'
                'https://' = 'https://'
                'http://' = 'http://'
                'file:' = 'file:'
            }
        'event_type' = [ordered]@{
                'behavioral' = 'behavioral'
                'metric' = 'metric'
                'log' = 'log'
            }
        'file' = [ordered]@{}
        'name' = [ordered]@{
                'install-success' = 'install-success'
                'app-start' = 'app-start'
                'login-start' = 'login-start'
                'login-success' = 'login-success'
                'deploy-start' = 'deploy-start'
                'deploy-success' = 'deploy-success'
                'ghconnected-start' = 'ghconnected-start'
                'ghconnected-success' = 'ghconnected-success'
                'dataaccess-start' = 'dataaccess-start'
                'dataaccess-success' = 'dataaccess-success'
            }
        'on_error' = [ordered]@{
                'warn' = 'warn'
                'fail' = 'fail'
                'ignore' = 'ignore'
            }
        'setting' = [ordered]@{
                'intake.url' = 'intake.url'
                'intake.user' = 'intake.user'
                'intake.password' = 'intake.password'
                'intake.password_file' = 'intake.password_file'
                'intake.password_command' = 'intake.password_command'
                'intake.token' = 'intake.token'
                'filter.drop_types' = 'filter.drop_types'
                'filter.drop_names' = 'filter.drop_names'
                'filter.drop_attributes' = 'filter.drop_attributes'
                'redact.keys' = 'redact.keys'
                'redact.values' = 'redact.values'
                'redact.enabled' = 'redact.enabled'
                'spool.max_bytes' = 'spool.max_bytes'
                'spool.durable' = 'spool.durable'
                'flush.to' = 'flush.to'
                'flush.batch_events' = 'flush.batch_events'
                'flush.batch_bytes' = 'flush.batch_bytes'
                'flush.compression' = 'flush.compression'
                'flush.stall_timeout' = 'flush.stall_timeout'
                'kafka.key' = 'kafka.key'
                'attributes.' = 'attributes.'
            }
        'shell' = [ordered]@{
                'bash' = 'bash'
                'zsh' = 'zsh'
                'fish' = 'fish'
                'powershell' = 'powershell'
            }
        'topic' = [ordered]@{
                'ci' = 'ci'
                'configuration' = 'configuration'
                'consent' = 'consent'
                'duckdb' = 'duckdb'
                'events' = 'events'
                'exit-codes' = 'exit-codes'
                'faults' = 'faults'
                'flushing' = 'flushing'
                'kafka' = 'kafka'
                'library' = 'library'
                'limits' = 'limits'
                'page' = 'page'
                'performance' = 'performance'
                'quickstart' = 'quickstart'
                'recording' = 'recording'
                'redaction' = 'redaction'
                'scale' = 'scale'
                'serve' = 'serve'
                'spool' = 'spool'
                'stats' = 'stats'
                'testing' = 'testing'
            }
    }
    $commands = @{
        '' = @{
            Commands = [ordered]@{
                'flush' = 'Deliver what is in the spool to its destination, in batches; what is not acknowledged stays'
                'status' = 'Show identity, consent and who decided it, the spool, the destination and the losses, on one page'
                'events' = 'Show the events that are in the spool and not yet delivered, or those in a store'
                'stats' = 'Show how many events there were over time, and percentiles of the values of metrics, in the spool or a store'
                'serve' = 'Take events over HTTP, from browsers, programs and `flush`, and store them or hand them on, until it is stopped'
                'demo' = 'Record events as a script would, flush them to an intake on this machine, and show what arrived'
                'completions' = 'Print the completion script for a shell'
                'help' = 'Show a page of the manual, or the list of them'
                'record' = 'Record an event: stored on this machine at once, sent by `rillevents flush`'
                'spool' = 'Look at the spool, take events out of it and bring them in'
                'id' = 'Show the install ID, or replace it by a new one'
                'telemetry' = 'Turn telemetry on or off for good, and see who decided'
                'config' = 'Show and change the settings in config.toml'
            }
            Options = [ordered]@{
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @()
        }
        'flush' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '--to' = 'intake, http(s)://…, kafka://…, or file:PATH'
                '--timeout' = 'Seconds in total'
                '--no-wait' = 'Leave at once if another flush is at it'
                '--dry-run' = 'Print what would be sent, and send nothing'
                '--ca-cert' = 'Trust this authority, too'
                '--on-error' = 'What a failure does to the exit code'
                '--json' = 'Print one JSON document'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{
                '--to' = 'destination'
                '--timeout' = 'text'
                '--ca-cert' = 'file'
                '--on-error' = 'on_error'
            }
            Arguments = @()
        }
        'status' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '--json' = 'Print one JSON document'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @()
        }
        'events' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '--store' = 'Look into this store, not the spool'
                '--type' = 'Only this type'
                '--name' = 'Only names like this'
                '--since' = 'Not before: a time, or 90m, 7d ago'
                '--until' = 'Before: a time, or 90m, 7d ago'
                '-a' = 'With this attribute'
                '--attr' = 'With this attribute'
                '--limit' = 'The newest N'
                '-f' = 'Go on with those that come now'
                '--follow' = 'Go on with those that come now'
                '--count' = 'Print how many there are'
                '--ndjson' = 'Print the lines as they are stored'
                '--json' = 'Print one JSON document'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{
                '--store' = 'file'
                '--type' = 'event_type'
                '--name' = 'text'
                '--since' = 'text'
                '--until' = 'text'
                '-a' = 'attribute'
                '--attr' = 'attribute'
                '--limit' = 'text'
            }
            Arguments = @()
        }
        'stats' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '--store' = 'Look into this store, not the spool'
                '--type' = 'Only this type'
                '--name' = 'Only names like this'
                '--since' = 'Not before: a time, or 90m, 7d ago'
                '--json' = 'Print one JSON document'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{
                '--store' = 'file'
                '--type' = 'event_type'
                '--name' = 'text'
                '--since' = 'text'
            }
            Arguments = @()
        }
        'serve' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '--host' = 'The address to listen on'
                '--port' = '0: any that is free'
                '--store' = 'Keep events in this SQLite file'
                '--to' = 'Hand them on: intake, spool, http(s)://…, kafka://…, file:PATH'
                '--keep' = 'Delete what is older: 30d, 12h'
                '--user' = 'Who sends has to say this name'
                '--password-file' = 'The user''s password, or RILLEVENTS_SERVE_PASSWORD'
                '--allow-host' = 'A name that this server has, too'
                '--allow-origin' = 'Pages of this origin may send, too'
                '--tls-cert' = 'Speak TLS with this certificate'
                '--tls-key' = 'And this key'
                '--json' = 'Print one JSON document'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{
                '--host' = 'text'
                '--port' = 'text'
                '--store' = 'file'
                '--to' = 'destination'
                '--keep' = 'text'
                '--user' = 'text'
                '--password-file' = 'file'
                '--allow-host' = 'text'
                '--allow-origin' = 'text'
                '--tls-cert' = 'file'
                '--tls-key' = 'file'
            }
            Arguments = @()
        }
        'demo' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @()
        }
        'completions' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @('shell')
        }
        'help' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @('topic')
        }
        'record' = @{
            Commands = [ordered]@{
                'behavioral' = 'Record what somebody or something did'
                'metric' = 'Record a number'
                'log' = 'Record a line of log under a name'
                'event' = 'Record an event of any type'
                'raw' = 'Record NDJSON as it is, byte for byte, a verdict for each bad line; from a pipe, each line as it comes'
            }
            Options = [ordered]@{
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @()
        }
        'record behavioral' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '-a' = 'An attribute: text, or JSON after := in place of ='
                '--attr' = 'An attribute: text, or JSON after := in place of ='
                '--attrs' = 'Attributes as a JSON object, from a file, or from stdin'
                '--time' = 'When it happened: RFC 3339, or @SECONDS since 1970'
                '--id' = 'The event''s ID, in place of a new one'
                '--user-id' = 'The attribute user_id'
                '--print' = 'Print the event as it was stored'
                '--dry-run' = 'Print the event, and store nothing'
                '--durable' = 'Sync to the disk before returning'
                '--on-error' = 'What a failure does to the exit code'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{
                '-a' = 'attribute'
                '--attr' = 'attribute'
                '--attrs' = 'attributes'
                '--time' = 'text'
                '--id' = 'text'
                '--user-id' = 'text'
                '--on-error' = 'on_error'
            }
            Arguments = @('name')
        }
        'record metric' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '-a' = 'An attribute: text, or JSON after := in place of ='
                '--attr' = 'An attribute: text, or JSON after := in place of ='
                '--attrs' = 'Attributes as a JSON object, from a file, or from stdin'
                '--time' = 'When it happened: RFC 3339, or @SECONDS since 1970'
                '--id' = 'The event''s ID, in place of a new one'
                '--user-id' = 'The attribute user_id'
                '--print' = 'Print the event as it was stored'
                '--dry-run' = 'Print the event, and store nothing'
                '--durable' = 'Sync to the disk before returning'
                '--on-error' = 'What a failure does to the exit code'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{
                '-a' = 'attribute'
                '--attr' = 'attribute'
                '--attrs' = 'attributes'
                '--time' = 'text'
                '--id' = 'text'
                '--user-id' = 'text'
                '--on-error' = 'on_error'
            }
            Arguments = @('text', 'text')
        }
        'record log' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '-a' = 'An attribute: text, or JSON after := in place of ='
                '--attr' = 'An attribute: text, or JSON after := in place of ='
                '--attrs' = 'Attributes as a JSON object, from a file, or from stdin'
                '--time' = 'When it happened: RFC 3339, or @SECONDS since 1970'
                '--id' = 'The event''s ID, in place of a new one'
                '--user-id' = 'The attribute user_id'
                '--print' = 'Print the event as it was stored'
                '--dry-run' = 'Print the event, and store nothing'
                '--durable' = 'Sync to the disk before returning'
                '--on-error' = 'What a failure does to the exit code'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{
                '-a' = 'attribute'
                '--attr' = 'attribute'
                '--attrs' = 'attributes'
                '--time' = 'text'
                '--id' = 'text'
                '--user-id' = 'text'
                '--on-error' = 'on_error'
            }
            Arguments = @('text', 'text')
        }
        'record event' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '-a' = 'An attribute: text, or JSON after := in place of ='
                '--attr' = 'An attribute: text, or JSON after := in place of ='
                '--attrs' = 'Attributes as a JSON object, from a file, or from stdin'
                '--time' = 'When it happened: RFC 3339, or @SECONDS since 1970'
                '--id' = 'The event''s ID, in place of a new one'
                '--user-id' = 'The attribute user_id'
                '--print' = 'Print the event as it was stored'
                '--dry-run' = 'Print the event, and store nothing'
                '--durable' = 'Sync to the disk before returning'
                '--on-error' = 'What a failure does to the exit code'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{
                '-a' = 'attribute'
                '--attr' = 'attribute'
                '--attrs' = 'attributes'
                '--time' = 'text'
                '--id' = 'text'
                '--user-id' = 'text'
                '--on-error' = 'on_error'
            }
            Arguments = @('event_type', 'text')
        }
        'record raw' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '--fill' = 'Mint what is missing of the four fields'
                '--type' = 'The event_type that --fill gives'
                '--name' = 'The event_name that --fill gives'
                '--on-error' = 'What a failure does to the exit code'
                '--json' = 'Print one JSON document'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{
                '--type' = 'event_type'
                '--name' = 'text'
                '--on-error' = 'on_error'
            }
            Arguments = @('file')
        }
        'spool' = @{
            Commands = [ordered]@{
                'path' = 'Print the spool''s folder'
                'export' = 'Print the events that are not delivered yet as NDJSON, byte for byte what a flush would send; they stay'
                'import' = 'Store exported events; those that the spool still holds, by their ID, are not stored twice'
                'rejected' = 'Show the events that the destination refused for good, and why'
                'retry' = 'Put the rejected events back into the spool, for the next flush to try again'
                'purge' = 'Delete the events that are not delivered yet, and the rejected and damaged ones; they are counted as dropped'
            }
            Options = [ordered]@{
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @()
        }
        'spool path' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @()
        }
        'spool export' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @()
        }
        'spool import' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '--json' = 'Print one JSON document'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @('file')
        }
        'spool rejected' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '--json' = 'Print one JSON document'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @()
        }
        'spool retry' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '--json' = 'Print one JSON document'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @()
        }
        'spool purge' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '--yes' = 'Do not ask; off a terminal nobody is asked'
                '--json' = 'Print one JSON document'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @()
        }
        'id' = @{
            Commands = [ordered]@{
                'show' = 'Print the install ID; it is made now if there is none, unless telemetry is off'
                'reset' = 'Replace the install ID by a new one, for instance in a copy of a virtual machine'
            }
            Options = [ordered]@{
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @()
        }
        'id show' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '--json' = 'Print one JSON document'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @()
        }
        'id reset' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '--json' = 'Print one JSON document'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @()
        }
        'telemetry' = @{
            Commands = [ordered]@{
                'status' = 'Print `on` or `off`, and say who decided'
                'on' = 'Turn telemetry on; a variable that turns it off still wins'
                'off' = 'Turn telemetry off for good: nothing is recorded or sent any more'
            }
            Options = [ordered]@{
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @()
        }
        'telemetry status' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '--json' = 'Print one JSON document'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @()
        }
        'telemetry on' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '--json' = 'Print one JSON document'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @()
        }
        'telemetry off' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '--purge' = 'Delete what is in the spool, too'
                '--json' = 'Print one JSON document'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @()
        }
        'config' = @{
            Commands = [ordered]@{
                'path' = 'Print where config.toml is, or would be'
                'list' = 'Print what is set, secrets left out'
                'get' = 'Print one setting'
                'set' = 'Set one setting; a secret is asked for, or read from stdin, and never given as an argument'
                'unset' = 'Remove one setting, so that its default holds again'
            }
            Options = [ordered]@{
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @()
        }
        'config path' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @()
        }
        'config list' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '--json' = 'Print one JSON document'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @()
        }
        'config get' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '--json' = 'Print one JSON document'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @('setting')
        }
        'config set' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '--json' = 'Print one JSON document'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @('setting', 'text')
        }
        'config unset' = @{
            Commands = [ordered]@{}
            Options = [ordered]@{
                '--json' = 'Print one JSON document'
                '-q' = 'Nothing on stderr but usage errors'
                '--quiet' = 'Nothing on stderr but usage errors'
                '--version' = 'Print the version'
                '-h' = 'Show this message and exit'
                '--help' = 'Show this message and exit'
            }
            Takes = [ordered]@{}
            Arguments = @('setting')
        }
    }

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
