"""Quiet: Ctrl-C in a terminal reaches all processes that were started there; the one that leads ends the others."""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)
