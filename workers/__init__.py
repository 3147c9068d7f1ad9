"""The machines' side: claim a unit, run it on a device, report what it cost."""

import os

# Before torch loads OpenMP, which looks there. Threads that wait for one another sleep: those that
# spin beside a busy neighbour compute three times as long, and a CPU is paid for what it computes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # noqa: TID251 - OpenMP's own
