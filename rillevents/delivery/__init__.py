"""From the spool, or from a queue, to a destination: batches, verdicts, back-off, and the exporters."""

# The only argument of a flush that a command starts beside itself, and the variable by which it is known: it starts no other one,
# nor does what it starts. Here, since a program asks for them at each start, and mostly for nothing else.
WORD = "auto-flush"
SPOOL = "_RV_DETACHED"
