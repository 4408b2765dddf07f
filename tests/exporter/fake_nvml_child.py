"""Plays a driver's behaviour to the exporter: ``fake_nvml_child.py SCRIPT COUNTER``.

SCRIPT holds one JSON value a line. Each start of this program takes the next line and plays its steps, one for each
question: an answer (an object; ``id`` is added), or a word for what goes wrong. The last step is repeated. The first
question of all is the one that starts the child ahead of the first scrape; it uses no step up.
"""

import json
import signal
import sys
import time
from pathlib import Path


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def play(step, question):
    if step == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    elif step == "slow":
        time.sleep(1.0)
        say(json.dumps({"id": question["id"], "status": "ok", "code": 0, "devices": [{"uuid": "GPU-1"}]}))
    elif step == "exit":
        sys.exit(3)
    elif step == "garbage":
        say("libnvidia-ml: warning, this is no JSON")
    elif step == "list":
        say("[1, 2]")
    elif step == "deep":
        say("[" * 100_000)
    elif step == "endless":
        while True:
            sys.stdout.write("x" * 65536)
    elif step == "other id":
        say(json.dumps({"id": question["id"] - 1, "status": "ok"}))
    else:
        say(json.dumps({**step, "id": question["id"]}))


def main():
    script, counter = Path(sys.argv[1]), Path(sys.argv[2])
    starts = len(counter.read_text()) if counter.exists() else 0
    with counter.open("a") as file:
        file.write("x")
    lives = [json.loads(line) for line in script.read_text().splitlines()]
    steps = lives[min(starts, len(lives) - 1)]
    ahead = starts == 0
    for line in sys.stdin:
        step = steps.pop(0) if len(steps) > 1 and not ahead else steps[0]
        ahead = False
        play(step, json.loads(line))


if __name__ == "__main__":
    main()
