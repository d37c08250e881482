"""What is for shells and CI jobs.

run.py         the process beside a command        ending.py     how the command ended
function.py    the function that records without a process (function.bash, function.zsh)
standalone.py  the script for images without Python (standalone.sh)
recorder.py    the process that records            recording.py  what that process does       arguments.py   without secrets
"""
