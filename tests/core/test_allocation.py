import subprocess
import sys

# In a process of its own: the setting is for good. Blocks above glibc's default threshold are
# mapped anew each time, which costs a page fault for every page (4 KiB, or 2 MiB where the kernel
# chooses so), unless they are kept.
FAULTS = """
import resource
from learning.core.allocation import keep_freed_memory
import numpy as np
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.empty(20_000_000, np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
before = faults()
assert keep_freed_memory()
faults()
print(before, faults())
"""


def test_what_a_step_freed_is_used_again_without_asking_the_kernel():
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, timeout=60
    )
    before, kept = (int(word) for word in done.stdout.split())
    assert before > 100
    assert kept < before / 10
