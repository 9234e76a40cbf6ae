"""The stand-in's RPC without a client: framing, checks of arguments, orders."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_bridge.pixels.labels import taxonomy
from tests.carla_server.blueprints import DEFINITIONS
from tests.carla_server.handle import CarlaServer, ServerError
from tests.carla_server.methods import NAMES, Methods
from tests.carla_server.pictures import StampedPictures
from tests.carla_server.rpc import FramingError, Request, RequestReader, encode_answer, failure, value
from tests.carla_server.simulation import Simulation
from tests.carla_server.structures import Settings
from tests.carla_server.world import World

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)
PLACE = [[1.0, 2.0, 3.0], [0.0, 90.0, 0.0]]


@given(
    st.lists(
        st.tuples(st.integers(0, 2**32), st.text(max_size=20), st.booleans(), st.lists(JSON, max_size=4)), max_size=4
    ),
    st.lists(st.integers(1, 40), max_size=50),
)
def test_requests_are_found_wherever_the_bytes_were_split(
    calls: list[tuple[int, str, bool, list[Any]]], cuts: list[int]
) -> None:
    data = b"".join(msgpack.packb([0, number, name, [[one_way], *args]]) for number, name, one_way, args in calls)
    reader, found = RequestReader(), []
    for size in [*cuts, len(data)]:
        found += list(reader.feed(data[:size]))
        data = data[size:]
    expected = [Request(number, name, args, not one_way) for number, name, one_way, args in calls]
    assert [msgpack.packb(request) for request in found] == [msgpack.packb(request) for request in expected]


def test_arguments_without_metadata() -> None:
    (request,) = RequestReader().feed(msgpack.packb([0, 7, "register_vehicle", [[[25, 0]]]]))
    assert request == Request(7, "register_vehicle", [[[25, 0]]], True)


@pytest.mark.parametrize(
    "data", [b"\xc1", msgpack.packb("GET / HTTP/1.1"), msgpack.packb([2, "name", []]), b"\x01\x00\x00\x00"]
)
def test_bytes_that_are_no_requests(data: bytes) -> None:
    with pytest.raises(FramingError, match="no msgpack-RPC request"):
        list(RequestReader().feed(data))


def test_answers() -> None:
    assert msgpack.unpackb(encode_answer(3, value("0.9.16"))) == [1, 3, None, [[1, "0.9.16"]]]
    assert msgpack.unpackb(encode_answer(4, failure("no"))) == [1, 4, None, [[0, ["no"]]]]


@pytest.fixture(scope="module")
def methods() -> Methods:
    world = World("Town01", 1, 0, 20.0)
    return Methods(Simulation(world, StampedPictures(taxonomy("carla-0.9.14")), 0, 14), "0.9.16")


def call(methods: Methods, name: str, *arguments: object) -> Any:
    return methods.call(Request(1, name, list(arguments), True))[0]


def describe(name: str, **attributes: str) -> list[Any]:
    return [1, name, [[key, 4, text] for key, text in attributes.items()]]


@given(name=st.sampled_from(sorted(NAMES)), arguments=st.lists(JSON, max_size=6))
def test_no_argument_breaks_the_server(methods: Methods, name: str, arguments: list[Any]) -> None:
    result = methods.call(Request(1, name, arguments, True))
    assert isinstance(msgpack.unpackb(encode_answer(1, result), strict_map_key=False)[3], list)


@given(name=st.sampled_from(["spawn_actor", "apply_batch"]), broken=JSON, place=st.integers(0, 2))
def test_no_part_of_a_spawn_breaks_the_server(methods: Methods, name: str, broken: Any, place: int) -> None:
    camera = describe("sensor.camera.rgb")
    camera[2 if place == 2 else place] = broken
    arguments = [camera, PLACE] if name == "spawn_actor" else [[[[0, [camera, PLACE, [False], 80, "", []]]]], False]
    result = methods.call(Request(1, name, arguments, True))
    for actor in list(methods._world.actors):
        if actor != methods._world.spectator.id:
            call(methods, "destroy_actor", actor)
    assert isinstance(result[0], list)


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("no_such_method", [], "has no method"),
        ("tick_cue", [1, 2], "was called with 2 arguments"),
        ("destroy_actor", [4711], "the actor 4711 is not found"),
        ("destroy_actor", ["x"], "the actor's id must be an integer, not 'x'"),
        ("spawn_actor", [describe("vehicle.no.such"), PLACE], "the blueprint must be one of the library's"),
        ("spawn_actor", [describe("sensor.camera.rgb", image_size_x="abc"), PLACE], "image_size_x must be 8 to 8192"),
        ("spawn_actor", [describe("sensor.camera.rgb", fov="nan"), PLACE], "fov must be 1 to 179"),
        ("spawn_actor", [describe("sensor.camera.rgb"), [[1, 2], [0, 0, 0]]], "location must be an array of 3"),
        ("spawn_actor", [describe("sensor.camera.rgb"), [[1e300, 2, 3], [0, 0, 0]]], "a number of at most 1e\\+09"),
        ("spawn_actor_with_parent", [describe("sensor.camera.rgb"), PLACE, 4711, 0, ""], "parent actor 4711 not found"),
        ("set_episode_settings", [[True]], "settings must be an array of 11"),
        ("set_episode_settings", [[True, False, [True, 0.0], *Settings()[3:]]], "fixed_delta_seconds must be above 0"),
        ("get_actors_by_id", [7], "must be an array"),
    ],
)
def test_wrong_calls_are_answered_with_a_sentence(
    methods: Methods, name: str, arguments: list[Any], sentence: str
) -> None:
    kind, (message,) = call(methods, name, *arguments)
    assert kind == 0
    with pytest.raises(ValueError, match=sentence):
        raise ValueError(message)


def test_a_map_that_there_is_not(methods: Methods) -> None:
    assert call(methods, "load_new_episode", "Town99", True, 65535) == [True, ["map not found: Town99"]]


def test_definitions_are_those_that_the_client_asks_for(methods: Methods) -> None:
    kind, definitions = call(methods, "get_actor_definitions")
    assert kind == 1
    assert definitions is DEFINITIONS
    assert all(attribute.type >= 1 for definition in definitions for attribute in definition.attributes)


@pytest.fixture(scope="module")
def server() -> Iterator[CarlaServer]:
    with CarlaServer(rate=200) as running:
        yield running


def ask(server: CarlaServer, name: str, *arguments: object) -> Any:
    """A call by a plain socket."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(msgpack.packb([0, 5, name, [[False], *arguments]]))
        unpacker = msgpack.Unpacker()
        while True:
            unpacker.feed(connection.recv(1 << 16))
            for message in unpacker:
                assert message[:3] == [1, 5, None]
                return message[3][0][1]


def test_bytes_of_somebody_else_end_their_connection_only(server: CarlaServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert connection.recv(100) == b""
    assert ask(server, "version") == "0.9.16"


@pytest.mark.parametrize(
    ("order", "arguments", "sentence"),
    [
        ("explode", {}, "there is no order 'explode'"),
        ("drop", {"sensor": 4711}, "the actor 4711 is not found"),
        ("drop", {"sensor": "rgb"}, "sensor: Input should be a valid integer"),
        ("drop", {}, "sensor: Missing required argument"),
        ("drop", {"sensor": 1, "share": 2}, "share: Input should be less than or equal to 1"),
        ("drop", {"sensor": 1, "frames": 3}, "frames: Unexpected keyword argument"),
        ("destroy", {"actor": 24, "": 1}, "Unexpected keyword argument"),
        ("hold_rpc", {"method": "tick", "seconds": 1}, "the server has no method 'tick'"),
    ],
)
def test_wrong_orders(server: CarlaServer, order: str, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ServerError, match=sentence):
        server.order(order, **arguments)
    assert server.order("state")["episode"] >= 1


def test_lines_that_are_no_orders(server: CarlaServer) -> None:
    for line in ("{", "[1]", '{"order": "drop", "arguments": 1}'):
        assert server.process.stdin is not None
        server.process.stdin.write(line + "\n")
        server.process.stdin.flush()
        assert "error" in server._answer(20)


def test_the_process_ends_with_its_input() -> None:
    server = CarlaServer().start()
    assert server.process.stdin is not None
    server.process.stdin.close()
    assert server.process.wait(20) == 0
    server.kill()


def test_a_server_that_cannot_start_says_so() -> None:
    with pytest.raises(ServerError, match="ended with exit code 2"):
        CarlaServer(pictures="paintings").start()


def read_stream(server: CarlaServer, stream: int) -> socket.socket:
    """A reader of a stream who takes nothing out of it, on a connection that holds little."""
    with_little_room = socket.socket()
    with_little_room.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with_little_room.settimeout(20)
    with_little_room.connect(("127.0.0.1", server.stream_port))
    with_little_room.sendall(struct.pack("<I", stream))
    return with_little_room


def spawn_camera(server: CarlaServer) -> int:
    """The actor id of a camera; its pictures are larger than what the connection holds."""
    actor = ask(server, "spawn_actor", describe("sensor.camera.rgb", image_size_x="1024", image_size_y="512"), PLACE)
    return int(actor[0])


def stream_of(server: CarlaServer, camera: int) -> int:
    return int(struct.unpack("<I", ask(server, "get_actors_by_id", [camera])[0][5][:4])[0])


def frames_read(connection: socket.socket, count: int) -> list[int]:
    frames = []
    with connection.makefile("rb") as stream:
        for _ in range(count):
            (size,) = struct.unpack("<I", stream.read(4))
            frames.append(struct.unpack_from("<Q", stream.read(size), 8)[0])
    return frames


def test_an_asynchronous_world_drops_the_newest_pictures_of_a_slow_reader(server: CarlaServer) -> None:
    server.order("new_episode")
    camera = spawn_camera(server)
    with read_stream(server, stream_of(server, camera)) as reader:
        while not server.order("lagging", sensor=camera):
            pass
        first, *rest = frames_read(reader, 12)
        assert rest[:3] == [first + 1, first + 2, first + 3]  # what was queued first is read first
        assert rest != list(range(first + 1, first + 12))  # and then there is a gap


def test_a_synchronous_world_waits_for_a_slow_reader(server: CarlaServer) -> None:
    server.order("new_episode")
    camera = spawn_camera(server)
    settings = ask(server, "get_episode_settings")
    ask(server, "set_episode_settings", [True, *settings[1:]])
    first = server.frame() + 1
    with (
        read_stream(server, stream_of(server, camera)) as reader,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection,
    ):
        server.wait_for_readers(camera)
        connection.sendall(b"".join(msgpack.packb([0, i, "tick_cue", [[False]]]) for i in range(20)))
        while server.frame() < first + 5:
            pass
        assert server.frame() < first + 19  # it cannot have sent them all: nobody reads
        assert frames_read(reader, 20) == list(range(first, first + 20))
        assert server.order("lagging", sensor=camera) == 0


def test_faults_on_the_wire(server: CarlaServer) -> None:
    server.order("new_episode")
    camera = spawn_camera(server)
    settings = ask(server, "get_episode_settings")
    ask(server, "set_episode_settings", [True, *settings[1:]])
    with read_stream(server, stream_of(server, camera)) as reader:
        server.wait_for_readers(camera)
        before = server.frame()

        def ticks(count: int, messages: int) -> list[int]:
            """The frames of the messages of some ticks, counted from the tick before the first one."""
            for _ in range(count):
                ask(server, "tick_cue")
            return [frame - before for frame in frames_read(reader, messages)]

        assert ticks(2, 2) == [1, 2]
        server.order("swap", sensor=camera, count=2)
        assert ticks(5, 5) == [4, 3, 6, 5, 7]
        server.order("repeat", sensor=camera, count=2)
        assert ticks(3, 5) == [8, 8, 9, 9, 10]
        server.order("delay", sensor=camera, ticks=2)
        server.order("drop", sensor=camera, count=1)
        assert ticks(5, 2) == [12, 13]
        server.order("delay", sensor=camera, ticks=0)
        assert ticks(2, 4) == [14, 15, 16, 17]


def test_a_stream_that_there_is_not_is_closed(server: CarlaServer) -> None:
    with read_stream(server, 4711) as reader:
        assert reader.recv(1) == b""
