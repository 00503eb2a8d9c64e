"""Buffers of the size of small pictures are used again, not mapped anew."""

from __future__ import annotations

import subprocess
import sys

MEASURE = """
import resource, sys
if sys.argv[1] == "keep":
    from service.allocator import keep_freed_memory
    keep_freed_memory()
def pictures():
    return [bytes([number]) * 400_000 for number in range(8)]
pictures()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    pictures()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    command = [sys.executable, "-c", MEASURE, mode]
    return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def test_freed_memory_is_kept():
    assert faults("keep") < 1000 < faults("default")


ARENAS = """
import ctypes, threading
from service.allocator import keep_freed_memory
keep_freed_memory()
together = threading.Barrier(6)
def allocate():
    together.wait()
    held = [bytearray(100_000) for _ in range(20)]
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
ctypes.CDLL(None).malloc_stats()
"""


def test_threads_keep_no_memory_each():
    ran = subprocess.run([sys.executable, "-c", ARENAS], capture_output=True, check=True, text=True)
    assert ran.stderr.count("Arena ") == 1
