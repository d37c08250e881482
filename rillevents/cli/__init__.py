"""The command line: parse, call the library, return a result; one subcommand a file, and one place that prints."""
