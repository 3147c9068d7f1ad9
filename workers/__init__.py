"""The machines' side: claim a unit, run it on a device, report what it cost."""
