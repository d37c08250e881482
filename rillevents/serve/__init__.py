"""HTTP in → a store, or a spool and from there to another destination. In the extra `[serve]`: uvicorn, httptools, uvloop.

    options.py    what it is asked to be        server.py     sockets, signals, the order of starting and stopping
    app.py        request → answer              protocol.py   deadlines, caps, what is no HTTP
    access.py     Host, Origin, credentials     endpoints.py  where events are sent to     answer.py  what is said
    body.py       bytes, within limits          reading.py    bodies → events, beside each other
    arrival.py    bytes → events and verdicts
    commit.py     many requests, one commit     forward.py    a spool of its own, and its flusher
    metrics.py    what is counted               look.py       what people look at, by path: JSON, and page/
    recent.py     the latest, where none are stored           spread.py     percentiles and histograms

Rules that every change here is held to:

1. 2xx is written after the storage has said that the events outlast a kill and a loss of power, and never for what was not kept.
2. Host is looked at first, then Origin, then credentials; nothing of a body is read before.
3. Everything that a client can make large has a limit, and everything that it can make slow has a deadline (limits.py).
4. What goes on from here is lines of events. Headers, cookies, addresses stay; what an upstream answers is told to nobody.
"""
