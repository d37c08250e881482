#!/usr/bin/env bash
# What a session's end, a summary or a flush hangs on in zsh is the list zshexit_functions (add-zsh-hook zshexit): it can be
# added to without replacing somebody's EXIT trap, and it runs in a script that is given as a file.
#
# Expected: the hooks run whenever the shell ends by itself, as an EXIT trap does, also in `zsh -c TEXT`.
# Seen: where the last command of TEXT is an external one, zsh puts that command in its own place and ends without the hooks,
#   without a word. It looks for EXIT traps before it does so, and not for hooks: with `trap : EXIT` the hooks run.
# Why it matters to telemetry: CI systems, containers and ssh start shells with -c. The end of such a session is not recorded, and
#   what a hook would deliver stays. Set an EXIT trap that does nothing beside the hook, if there is none.
# Version: zsh 5.9 (Debian 12). Date: 2026-11-29.
#
# Needs zsh, which is installed from the system's packages; fails if the behaviour has changed.
set -euo pipefail
command -v zsh >/dev/null || { echo "zsh is not installed; run: apt-get install zsh" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
zsh --version

hook='hook() { print hook }; zshexit_functions+=(hook)'
env_only="env -i PATH=$PATH HOME=$folder"
printf '%s\n/bin/echo last\n' "$hook" >file.zsh
in_a_file=$($env_only zsh -f file.zsh | tr '\n' ' ')
in_a_text=$($env_only zsh -f -c "$hook; /bin/echo last" | tr '\n' ' ')
with_a_trap=$($env_only zsh -f -c "$hook; trap : EXIT; /bin/echo last" | tr '\n' ' ')
before_a_builtin=$($env_only zsh -f -c "$hook; /bin/echo last; :" | tr '\n' ' ')
printf '%-34s %s\n' "a script in a file:" "$in_a_file" "zsh -c, an external command last:" "$in_a_text" \
  "the same, with a trap for EXIT:" "$with_a_trap" "zsh -c, a builtin last:" "$before_a_builtin"

for seen in "$in_a_file" "$with_a_trap" "$before_a_builtin"; do
  [ "$seen" = "last hook " ] || { echo "changed: the hook did not run as an EXIT trap does" >&2; exit 1; }
done
[ "$in_a_text" = "last " ] || { echo "changed: the hook ran" >&2; exit 1; }
