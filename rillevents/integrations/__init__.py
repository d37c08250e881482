"""Places in other people's frameworks. Each module needs the framework that it is for, and nothing else.

logging.py    a handler of the standard library's logging
asgi.py       one metric a request: FastAPI, Starlette and others      wsgi.py    the same for Flask and others
celery.py     the start and the end of tasks
"""
