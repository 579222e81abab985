"""The child process of one llama.cpp replica: starts the native server on a free port and says where it listens.

Run as a script (``python -P llamacpp_server.py '{"path": …}'``), so that nothing of Underlay is imported: what
it needs is in its one argument, and every import would delay the first token. It never outlives its parent:
the kernel kills it when the parent dies, and it ends when its standard input does.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1


def die_with(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent ends, even by SIGKILL.

    The parent may have ended before that was arranged; then the parent is another by now.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def main() -> None:
    """Serve until standard input ends."""
    wanted = json.loads(sys.argv[1])
    die_with(wanted["parent_pid"])
    # Ctrl-C in the terminal is for the parent, which drains before it stops its engines.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setsid()
    said = os.fdopen(os.dup(1), "w")
    # The library prints to standard output too; that is for the one line that the parent reads.
    os.dup2(2, 1)
    try:
        server = _start(wanted)
    except RuntimeError as error:
        # Its own log lines before this say more.
        sys.exit(f"llama.cpp cannot serve {wanted['path']}: {error}")
    said.write(json.dumps({"listening": server.listening_address, "pid": os.getpid()}) + "\n")
    said.flush()
    sys.stdin.buffer.read()
    # Not through the library's destructors: they wait for requests that nobody reads any more.
    os._exit(0)


def _start(wanted: dict[str, Any]) -> Any:
    import xllamacpp  # noqa: PLC0415  # after the parent's death has been provided for

    slots, context_tokens = int(wanted["slots"]), int(wanted["context_tokens"])
    threads = int(wanted["threads"])
    params = xllamacpp.CommonParams()
    params.model.path = wanted["path"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = slots
    params.n_ctx = context_tokens * slots
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.endpoint_metrics = True
    params.endpoint_slots = True
    params.ui = False
    # No web page has business here; llama.cpp lets any by default.
    params.cors_origins = "null"
    params.cors_origins_explicit = True
    params.verbosity = int(wanted.get("verbosity", 1))
    # A streamed reply and an idle kept-alive connection hold a thread each; probes need one besides.
    params.n_threads_http = 2 * slots + 32
    # A warm-up decodes once before anybody asked; the first request does the same work.
    params.warmup = False
    # Fitting a model to the memory of devices loads it twice (0.9 s of 2.4 s for the bundled one).
    params.fit_params = bool(wanted["fit"])
    # Prompts kept on the host for whoever asks alike: no tenant may find another's there.
    params.cache_ram_mib = 0
    # Without it, models with sliding-window attention (Gemma 3) cannot reuse the beginning that conversations
    # share, only whole conversations: 0.4 s more to the first token, every time.
    params.swa_full = bool(wanted["shared_beginning"])
    if wanted["embeddings"]:
        params.embedding = True
        if wanted["mean_pooling"]:
            params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        # A text is embedded in one batch.
        params.n_batch = params.n_ubatch = context_tokens
    else:
        # Streams in progress wait while a batch of somebody's prompt is computed.
        params.n_batch = 512
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
