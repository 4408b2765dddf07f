import subprocess
import sys

CROWDED = """
import gc, threading
from llmvitals._frames import current_frames

class Cycle:
    def __init__(self):
        self.itself, self.local = self, threading.local()

def look(depth):
    if depth:
        return look(depth - 1)
    gc.disable()
    for _ in range(20):
        Cycle()
    gc.enable()
    return current_frames()

gc.set_threshold(1)
for depth in range(20):
    thread = threading.Thread(target=look, args=(depth,))
    thread.start()
    frames = look(depth)
    thread.join()
assert threading.get_ident() in frames
assert gc.isenabled()
gc.disable()
current_frames()
assert not gc.isenabled()
"""


def test_a_collection_in_the_middle_does_not_stand_still():
    """A threading.local that is garbage must not stop the process while the frames of its threads are looked at."""
    looked = subprocess.run([sys.executable, "-c", CROWDED], capture_output=True, text=True, timeout=30, check=False)

    assert (0, "") == (looked.returncode, looked.stderr)
