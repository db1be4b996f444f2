"""Inputs that break things, set aside: `state` decides, `faults` says what counts, `manager` alerts, sweeps and files."""
