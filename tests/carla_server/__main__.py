"""The server as a process: ``python -m tests.carla_server``.

Prints one JSON line with its ports when it is ready, then takes orders on standard input, one JSON line each
(``{"order": "drop", "arguments": {"sensor": 27}}``), and answers each with one line: ``{"result": ...}`` or
``{"error": "sentence"}``. It ends with its input where that is a pipe; otherwise (a terminal, ``nohup``, a service) by
a signal.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from sim_bridge.pixels.labels import Taxonomy, taxonomy, taxonomy_names
from tests.carla_server.methods import Methods
from tests.carla_server.orders import OrderError, Orders
from tests.carla_server.pictures import CapturedPictures, Pictures, StampedPictures, taxonomy_of
from tests.carla_server.rpc_server import RpcServer
from tests.carla_server.simulation import Simulation
from tests.carla_server.world import WORLD_OBSERVER, World


def main() -> None:
    """Serves until standard input ends."""
    options = _parse()
    world = World(options.town, options.episode, options.first_frame, options.rate)
    world.observer = options.world_observer
    tags = taxonomy_of(options.version)
    (car,) = (number for number, name in tags.ids.items() if name == "car")
    simulation = Simulation(world, _pictures(options, tags), options.stream_port, car)
    server = RpcServer(options.port, Methods(simulation, options.version))
    simulation.start()
    server.start()
    _say({"port": server.port, "stream_port": simulation.streams.port})
    _obey(sys.stdin, Orders(simulation, server))
    if not stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        signal.pause()
    # Threads that serve clients need no farewell: a simulator that ends just goes.
    os._exit(0)


def _obey(lines: Iterable[str], orders: Orders) -> None:
    for line in lines:
        try:
            message = json.loads(line)
            if not isinstance(message, dict) or not isinstance(message.get("arguments", {}), dict):
                raise OrderError('an order is {"order": NAME, "arguments": {...}}')
            _say({"result": orders.carry_out(str(message.get("order")), message.get("arguments", {}))})
        except (OrderError, json.JSONDecodeError) as error:
            _say({"error": str(error)})


def _say(message: object) -> None:
    print(json.dumps(message), flush=True)


def _pictures(options: argparse.Namespace, tags: Taxonomy) -> Pictures:
    if options.pictures == "captures":
        rgb, semantic = _files(options.rgb), _files(options.semantic)
        return CapturedPictures(rgb, semantic, taxonomy(options.labels), tags)
    if options.pictures == "toytown":
        from tests.carla_server.toytown_pictures import ToytownPictures  # it needs the ray caster

        return ToytownPictures(tags, ring=options.ring)
    return StampedPictures(tags)


def _files(pattern: str) -> list[Path]:
    """The files of an absolute glob, in order."""
    return sorted(Path("/").glob(pattern.removeprefix("/")))


def _frame(text: str) -> int:
    """A frame number that leaves room to go on counting."""
    if not 0 <= int(text) < 1 << 31:
        raise ValueError(text)
    return int(text)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.carla_server", description="A stand-in for CARLA's server.")
    parser.add_argument("--port", type=int, default=2000, help="RPC port; 0: the system chooses")
    parser.add_argument("--stream-port", type=int, default=0, help="port of the streams; 0: the system chooses")
    parser.add_argument("--version", default="0.9.16", help="what the server says it is; its tags fit")
    parser.add_argument(
        "--world-observer", type=int, default=WORLD_OBSERVER, help="its number among the sensors, as another version's"
    )
    parser.add_argument("--town", default="Town10HD")
    parser.add_argument("--episode", type=int, default=1, help="id of the first episode")
    parser.add_argument("--first-frame", type=_frame, default=0)
    parser.add_argument("--rate", type=float, default=20.0, help="ticks per second of an asynchronous world")
    parser.add_argument("--pictures", choices=("stamped", "toytown", "captures"), default="stamped")
    parser.add_argument("--ring", type=int, default=0, help="toytown: pictures repeat after so many ticks; 0: never")
    parser.add_argument("--rgb", default="", help="captures: absolute glob of the RGB images")
    parser.add_argument("--semantic", default="", help="captures: absolute glob of the label images")
    parser.add_argument("--labels", choices=taxonomy_names(), default="carla-0.9.14", help="captures: their taxonomy")
    return parser.parse_args()


if __name__ == "__main__":
    main()
