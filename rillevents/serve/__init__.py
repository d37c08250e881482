"""HTTP in → a store, or a spool that is forwarded to another destination. Extra `[serve]`: uvicorn, httptools, uvloop.

    options.py    the options, checked              server.py     sockets, signals, startup and shutdown order
    app.py        request → answer                  protocol.py   deadlines, caps, malformed HTTP
    access.py     Host, Origin, credentials         endpoints.py  the paths that take events
    body.py       bodies within limits, in threads   parse.py      bytes → events and verdicts
    commit.py     many requests, one commit         response.py   what is answered
    metrics.py    the counters                      forward.py    a spool of its own, and its flusher
    via.py        a mark against loops
    api.py        the page and its JSON, by path    latest.py     the latest events, when none are stored

Every change here must keep these rules:

1. 2xx is written only after the storage confirms that the events survive a kill and a loss of power.
2. Host is checked first, then Origin, then credentials. Nothing of the body is read before that.
3. Everything a client can make large has a limit; everything it can make slow has a deadline (limits.py).
4. Only event lines go on from here: no headers, cookies or addresses, but for the IDs of via.py.
   An upstream's answer is never passed to a client.
"""
