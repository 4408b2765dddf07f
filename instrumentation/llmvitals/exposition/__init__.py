"""Show a prometheus_client registry to Prometheus: a fast encoder and a server that idle clients cannot stop.

```python
server = llmvitals.exposition.serve(registry, "127.0.0.1", 9464)
...
server.close()
```
"""

from llmvitals.exposition._apps import ASGIApp, WSGIApp, asgi_app, wsgi_app
from llmvitals.exposition._encode import OnError, encode, encode_openmetrics
from llmvitals.exposition._push import PushError, push
from llmvitals.exposition._respond import Guard, Page, Pages, Select
from llmvitals.exposition._server import Limits, Security, ServeError, Server, serve

__all__ = [
    "ASGIApp",
    "Guard",
    "Limits",
    "OnError",
    "Page",
    "Pages",
    "PushError",
    "Security",
    "Select",
    "ServeError",
    "Server",
    "WSGIApp",
    "asgi_app",
    "encode",
    "encode_openmetrics",
    "push",
    "serve",
    "wsgi_app",
]
