"""gunicorn's configuration of the shop."""

import os
import types

import gunicorn.arbiter

bind = os.environ["SHOP_BIND"]
workers = int(os.environ["SHOP_WORKERS"])
preload_app = os.environ.get("SHOP_PRELOADS") == "yes"
max_requests = int(os.environ.get("SHOP_MAX_REQUESTS", "0"))
graceful_timeout = 5
# It would be one of all that this user runs, and a thread in what forks.
control_socket_disable = True

# The arbiter waits up to 0.1 s after each fork; a thousand deaths would be a minute of that.
gunicorn.arbiter.random = types.SimpleNamespace(random=lambda: 0.0)


def post_fork(server, worker):
    if os.environ.get("SHOP_STARTS") == "post_fork":
        from tests.instrumentation.workers import shop

        shop.start()
