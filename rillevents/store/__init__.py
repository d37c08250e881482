"""The store: events in one SQLite file, each stored once by its ID; `serve` writes it, people query it.

    schema.py   the tables, and a file that is safe to use     writer.py   what a server does to the file
    insertion.py  one transaction for many requests          journal.py  the file and its journal
    reader.py   reading without writing, by readonly.py        follow.py   every event once, as it arrives
    glance.py   reading in bounded time, for frequent polling
    counted.py  counts kept beside the events, by uncounted.py for new ones    counts.py  what they say
    source.py   a store or the spool, asked alike            summary.py  `stats`

The standard library is enough to read or write it, and any SQLite client opens it as it is.
"""
