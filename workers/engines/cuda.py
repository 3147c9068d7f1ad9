"""The clock of an NVIDIA GPU: events in its stream of work."""

import torch


class CudaTimer:
    """Times a stream by its own events.

    The host may run one stretch ahead, so that the next step is queued before the last one
    ends and the device never waits for the meter.
    """

    ahead = 1

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)

    def mark(self) -> torch.cuda.Event:
        """Record an event behind all that was queued so far."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch has no types here
        event.record(torch.cuda.current_stream(self._device))
        return event

    def ms_between(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Return the device time between two events; waits for the second."""
        end.synchronize()
        return float(start.elapsed_time(end))

    def waited_ms(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Return nothing: events do not tell whose work was between them."""
        return 0.0
