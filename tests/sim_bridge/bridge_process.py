"""A bridge in a process of its own, ended by signals like the real one."""

from __future__ import annotations

import json
import logging
import sys
from functools import partial

from sim_bridge.live.bridge import Bridge, run_until_signalled
from sim_bridge.live.shared import TranslatorSource
from tests.sim_bridge.bridge_helpers import TRANSLATORS, make_settings


def main() -> int:
    """Reads settings and the translator's name from the command line; prints its address, then its account."""
    logging.basicConfig(level=logging.WARNING)
    options = json.loads(sys.argv[1])
    settings = make_settings(**options["settings"])
    source: TranslatorSource
    if options["translator"] == "bundle":
        from sim_bridge.translators.load import load_translator

        source = partial(load_translator, settings)
    else:
        source = TRANSLATORS[options["translator"]]()
    bridge = Bridge(settings, source)
    print(json.dumps({"address": bridge.output_address}), flush=True)
    code = run_until_signalled(bridge)
    account = {topic: count.as_counters() for topic, count in bridge.ledger.snapshot().items()}
    print(json.dumps({"account": account, "latency_ms": bridge.latency.percentiles_ms()}), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
