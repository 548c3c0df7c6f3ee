"""A process that leads a build on two workers, to be killed: spread_process.py OUT KIND WHERE."""

from __future__ import annotations

import signal
import sys
from typing import Any

from small import Small, make_small

import embedfield as ef
from embedfield.cluster import cluster_of

KINDS = {"cog": {"format": "cog"}, "zarr": {"format": "zarr"}}

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background is deaf to it
    _, out, kind, where = sys.argv
    make_small()
    asked: dict[str, Any] = {"model": "sh-l10", "res": 0.5, "out": out, "report": print, **KINDS[kind]}
    if where == "plain":
        ef.build_field(**asked)
    else:
        with cluster_of(where) as cluster:
            cluster.client.register_plugin(Small())
            ef.build_field(**asked, client=cluster.client)
