"""A small `llama-server`: llama.cpp's own HTTP server, taken from the xllamacpp wheel.

usage: llama-server --model FILE [--host ADDR] [--port N] [--ctx-size N] [--threads N]
                    [--threads-batch N] [--parallel N] [--batch-size N]
                    [--n-gpu-layers N] [--alias NAME] [--metrics] [--verbosity N]
                    [--outlive-parent]
       llama-server --version

The flags are a subset of the real llama-server's and mean the same; any other flag
is refused with exit 64, so that a setting is never dropped in silence. Two defaults
differ: one slot (--parallel 1), and GPU layers only if asked for (--n-gpu-layers 0).

It listens on loopback only. Once the model is loaded it prints one line beginning
`llama-server: ready` to stderr, and it serves until SIGTERM or SIGINT, or until the
process that started it is gone (--outlive-parent lifts the last one).

exit: 0 stopped on request, 1 could not load or serve, 64 bad usage,
      143 or 130 if a signal came while the model was still loading
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import select
import signal
import sys
import threading
import time
import urllib.request

EXIT_FAILED = 1
EXIT_USAGE = 64
PARENT_POLL_SECONDS = 1.0


class Parser(argparse.ArgumentParser):
    """argparse, with this project's exit code for bad usage."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(EXIT_USAGE, f"llama-server: {message}\n")


def loopback(value: str) -> str:
    """The address as the server takes it, if it is a loopback one."""
    if value == "localhost":
        return "127.0.0.1"
    try:
        inside = ipaddress.ip_address(value).is_loopback
    except ValueError:
        inside = False
    if not inside:
        raise argparse.ArgumentTypeError(f"{value!r} is not a loopback address")
    return value


def whole(least: int, most: int):
    """A parser of whole numbers within bounds."""

    def parse(value: str) -> int:
        try:
            number = int(value, 10)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{value!r} is not a whole number") from None
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{number} is not between {least} and {most}")
        return number

    return parse


def arguments() -> argparse.Namespace:
    # No abbreviations: `--thread` must not pass for `--threads`.
    parser = Parser(prog="llama-server", allow_abbrev=False, description="llama.cpp's HTTP server on loopback")
    cores = os.cpu_count() or 1
    parser.add_argument("--version", action="store_true", help="print the versions and exit")
    parser.add_argument("-m", "--model", metavar="FILE", help="the GGUF file to serve")
    parser.add_argument("--host", type=loopback, default="127.0.0.1", help="loopback address (127.0.0.1)")
    parser.add_argument("--port", type=whole(0, 65535), default=8080, help="0 lets the system choose (8080)")
    parser.add_argument("-c", "--ctx-size", type=whole(0, 1 << 24), default=0,
                        help="tokens of context, shared out over the slots; 0 takes the model's (0)")
    parser.add_argument("-t", "--threads", type=whole(1, 512), default=cores, help="threads for decoding (all cores)")
    parser.add_argument("-tb", "--threads-batch", type=whole(1, 512), help="threads for prefill (as --threads)")
    parser.add_argument("-np", "--parallel", type=whole(1, 256), default=1, help="slots (1)")
    parser.add_argument("-b", "--batch-size", type=whole(1, 1 << 20), default=2048, help="logical batch (2048)")
    parser.add_argument("-ngl", "--n-gpu-layers", type=whole(0, 1 << 16), default=0, help="layers on the GPU (0)")
    parser.add_argument("-a", "--alias", help="the model's name in answers (the file's path)")
    parser.add_argument("--metrics", action="store_true", help="serve /metrics")
    parser.add_argument("-lv", "--verbosity", type=whole(0, 5), help="how much to log; 4 tells every buffer's size")
    parser.add_argument("--outlive-parent", action="store_true", help="go on when the starting process is gone")
    return parser.parse_args()


def say(line: str) -> None:
    print(f"llama-server: {line}", file=sys.stderr, flush=True)


def answers(address: str) -> bool:
    """Whether the server still serves: a signal that came in the instant between its own
    signal handlers and ours has stopped it without our knowing."""
    try:
        # No proxy from the environment stands between us and loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{address}/health", timeout=10) as reply:
            return reply.status == 200
    except OSError:
        return False


def stop_with_parent(parent: int) -> None:
    """End this process once `parent` is gone.

    Not PR_SET_PDEATHSIG: it fires when the parent's *thread* ends, and a runtime's
    threads come and go while the process lives on.
    """
    try:
        descriptor = os.pidfd_open(parent)
    except (AttributeError, OSError):
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_SECONDS)
    else:
        if os.getppid() == parent:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll()
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    parent = os.getppid()
    options = arguments()
    try:
        import xllamacpp
    except ImportError as error:
        say(f"the xllamacpp package cannot be loaded: {error}")
        return EXIT_FAILED

    if options.version:
        # The package is versioned YEAR.MONTH.BUILD, after the llama.cpp build inside it.
        build = xllamacpp.__version__.split(".")[2:3]
        info = xllamacpp.BUILD_INFO
        print(f"version: xllamacpp {xllamacpp.__version__} (llama.cpp b{build[0] if build else '?'})")
        print(f"built with {info['compiler']} for {info['build_target']}")
        print(xllamacpp.get_system_info().strip())
        return 0
    if not options.model:
        say("--model is required")
        return EXIT_USAGE
    if not os.path.isfile(options.model):
        say(f"no such model file: {options.model}")
        return EXIT_FAILED

    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.hostnames = [options.host]
    params.port = options.port
    params.n_ctx = options.ctx_size
    params.n_parallel = options.parallel
    params.n_batch = options.batch_size
    params.n_ubatch = min(params.n_ubatch, options.batch_size)
    params.n_gpu_layers = options.n_gpu_layers
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads_batch or options.threads
    if options.alias:
        params.model_alias = {options.alias}
    params.endpoint_metrics = options.metrics
    if options.verbosity is not None:
        params.verbosity = options.verbosity
    params.ui = False
    # Browsers have no business here: no page of another origin may read the answers.
    params.cors_origins = f"http://{options.host}"
    # What was asked for is what is run: no fitting of context or layers to the free memory.
    params.fit_params = False

    if options.n_gpu_layers and not any("GPU" in str(device.get("type")) for device in xllamacpp.get_device_info()):
        say(f"--n-gpu-layers {options.n_gpu_layers} has no effect: this build finds no GPU")

    # Loading holds the interpreter, so no Python handler could run: let a signal end us there.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    begun = time.monotonic()
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        say(f"could not serve {options.model} on {options.host}:{options.port}: {error}")
        return EXIT_FAILED
    # The library has put its own handlers in; these replace them.
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    address = server.listening_address
    if not answers(address):
        say("stopped while starting")
        return 0
    if not options.outlive_parent:
        threading.Thread(target=stop_with_parent, args=(parent,), daemon=True).start()
    say(f"ready on {address} after {time.monotonic() - begun:.1f} s, {options.parallel} slot(s), "
        f"{params.cpuparams.n_threads} thread(s), {params.cpuparams_batch.n_threads} for prefill")

    stop.wait()
    say("stopped")
    # Nothing is on disk to be tidied, and the server's own stop may wait for streams that
    # clients still read (while holding the interpreter): the system takes everything back.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
