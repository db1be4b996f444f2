"""Inputs that break things, set aside: `state` decides, `faults` says what counts, `manager` announces and files."""
