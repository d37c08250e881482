"""What is for shells and CI jobs.

run.py         the process beside a command        ending.py     how the command ended
recorder.py    the process that records            recording.py  what that process does       arguments.py   without secrets
"""
