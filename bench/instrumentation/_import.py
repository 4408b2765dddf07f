"""What llmvitals' import, start and `instrument` cost where prometheus_client is imported and nothing else of note."""

import json
import time

import prometheus_client  # noqa: F401 -- what is measured is what comes on top of it
from bench.instrumentation._contenders import CONTENDERS

if __name__ == "__main__":
    start = time.process_time()
    CONTENDERS["llmvitals"]()
    print(json.dumps({"ms": (time.process_time() - start) * 1000}))
