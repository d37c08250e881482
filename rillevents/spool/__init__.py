"""The spool: events as NDJSON files that many short-lived processes write at once and one flusher empties.

Rules that every change here is held to:

1. Who writes to a file holds its lock, and has made sure after locking that the path still names that file.
2. Only the flusher renames or unlinks. It renames slots without their lock (a writer that holds it sees the change after its
   write and is still read), and unlinks a file only under that file's lock, after reading it once more.
3. A line is acknowledged to the caller after one whole write. A short write is undone; a torn tail is closed with a newline
   by the next writer before its own line.
4. Offsets move only after an acknowledgement, together with the ledger, in one atomic replace.
5. No state file is indispensable: without it, events are sent twice, never lost.
6. Nothing is decided by age, and what is not understood (unknown prefixes, other versions) is left alone.

    folder.py   the folder and its names     append.py   one event and gone       live.py    a long-lived writer
    state.py    lock, checkpoint, ledger     drain.py    what the flusher does    quarantine.py   rejected/ and corrupt/
    tally.py    counts made by writers       view.py     looking without touching
"""
