"""The store: events in one SQLite file, each once by its ID, for `serve` to keep and for people to ask.

    schema.py   the tables, and a file that is safe to use     writer.py   one transaction for many requests
    reader.py   looking without touching, by readonly.py       follow.py   every event once, as they come
    glance.py   looking in bounded time, for who asks every few seconds

Nothing but the standard library is needed to read or write it, and any SQLite client opens it as it is.
"""
