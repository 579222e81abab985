"""One run of Vidur, by its own Python and in its own checkout. Usage: vidur_run.py RESULT.json FLAGS OF VIDUR...

Its ``Simulator`` keeps no requests; they are taken from its queue before it begins.
"""

import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    """Run it, and write down what it took and when each request was answered."""
    result = Path(sys.argv.pop(1))
    from vidur.config import SimulationConfig  # noqa: PLC0415 -- it reads the command line
    from vidur.simulator import Simulator  # noqa: PLC0415
    from vidur.utils.random import set_seeds  # noqa: PLC0415

    config = SimulationConfig.create_from_cli_args()
    set_seeds(config.seed)
    simulator = Simulator(config)
    requests = [event._request for _, event in simulator._event_queue]  # noqa: SLF001
    began_s = time.process_time()
    simulator.run()
    took_s = time.process_time() - began_s
    rows = [
        [request.arrived_at, request.prefill_completed_at, request.completed_at, request.num_decode_tokens]
        for request in requests
    ]
    result.write_text(json.dumps({"took_s": took_s, "requests": rows}), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)  # it would draw plots now


main()
