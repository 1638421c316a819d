"""A lock that everybody holds who measures on this machine, so that nobody disturbs the others."""

import fcntl
import time

# Measuring goes on under the same lock for this long, in seconds, and then the others have a turn.
LONGEST = 60


class Turn:
    """Held within `with`, and kept from one to the next while the turn lasts."""

    def __init__(self, file):
        self.file = file
        self.lock = None

    def __enter__(self):
        if self.file and not self.lock:
            # Those who wait come first: a lock is not given to whoever waits longest.
            time.sleep(0.3)
            self.lock = open(self.file, "a")
            fcntl.flock(self.lock, fcntl.LOCK_EX)
            self.since = time.monotonic()

    def __exit__(self, *_):
        if self.lock and time.monotonic() - self.since > LONGEST:
            self.over()

    def over(self):
        if self.lock:
            self.lock.close()
            self.lock = None
