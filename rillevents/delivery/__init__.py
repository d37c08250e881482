"""From the spool, or from a queue, to a destination: batches, verdicts, back-off, and the exporters."""
