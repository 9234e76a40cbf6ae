import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
import zmq.auth

from sim_bridge.errors import UsageError
from sim_bridge.wire.transport import (
    MIN_SEND_HWM,
    CurveKeys,
    FrameReceiver,
    FrameSender,
    Message,
    check_address,
    is_local,
)
from tests.sim_bridge.bridge_helpers import ANY_PORT, WAIT, Socket

Context = zmq.Context[Socket]


@pytest.fixture
def context() -> Iterator[Context]:
    context: Context = zmq.Context()
    yield context
    context.destroy(linger=0)


def handshake(sender: FrameSender, receiver: FrameReceiver, topic: str = "a/rgb") -> None:
    """Sends until something comes: then the two are connected."""
    for _ in range(300):
        sender.send([topic.encode(), b"hello"])
        if receiver.receive(0.1) is not None:
            break
    else:
        raise AssertionError("nothing arrived")
    while receiver.receive(0.1) is not None:
        pass


def parts_of(message: Message | None) -> list[bytes]:
    assert message is not None, "no message"
    return [part.bytes for part in message.parts]


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("tcp://127.0.0.1:5555", True),
        ("tcp://127.8.9.1:*", True),
        ("tcp://[::1]:5555", True),
        ("tcp://localhost:5555", True),
        ("ipc:///tmp/x", True),
        ("inproc://x", True),
        ("tcp://*:5555", False),
        ("tcp://0.0.0.0:5555", False),
        ("tcp://[::]:5555", False),
        ("tcp://192.168.1.4:5555", False),
        ("tcp://localhost.evil.example:5555", False),
        ("tcp://eth0:5555", False),
        ("tcp://127.0.0.1.example.org:5555", False),
        ("nonsense", False),
    ],
)
def test_local_is_what_nobody_else_can_reach(address: str, local: bool) -> None:
    assert is_local(address) is local


def test_a_stream_leaves_the_machine_only_encrypted_or_on_demand() -> None:
    with pytest.raises(UsageError, match=r"--curve-keys DIR \(in Python curve_keys\), or --insecure"):
        check_address("tcp://0.0.0.0:5555")
    check_address("tcp://0.0.0.0:5555", encrypted=True)
    check_address("tcp://0.0.0.0:5555", insecure=True)
    with pytest.raises(UsageError, match="is written tcp://HOST:PORT"):
        check_address("127.0.0.1:5555", insecure=True)


@pytest.mark.parametrize("port", ["0", "65536", "99999", "4294967297", "9" * 5000])
def test_a_port_that_does_not_exist_is_refused(context: Context, port: str) -> None:
    """ZeroMQ would bind 99999 - 65536 without a word."""
    for address in (f"tcp://127.0.0.1:{port}", f"tcp://[::1]:{port}"):
        with pytest.raises(UsageError, match="the port must be 1 to 65535"):
            check_address(address)
        with pytest.raises(UsageError, match="the port must be 1 to 65535"):
            FrameSender(context, address)
    assert not is_local(f"tcp://127.0.0.1:{port}")
    check_address("tcp://127.0.0.1:65535")


def test_both_directions_hold_the_rule(context: Context) -> None:
    with pytest.raises(UsageError, match="--insecure"):
        FrameSender(context, "tcp://0.0.0.0:*")
    with pytest.raises(UsageError, match="--insecure"):
        FrameReceiver(context, "tcp://192.0.2.1:5555", ["a/rgb"])


def test_a_port_in_use_is_one_sentence(context: Context) -> None:
    with FrameSender(context, ANY_PORT) as first, pytest.raises(UsageError, match="another process may hold it"):
        FrameSender(context, first.address)


def test_an_ipc_path_at_which_somebody_listens_is_refused(context: Context, tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/frames"
    with FrameSender(context, address) as first:
        with pytest.raises(UsageError, match=r"in use.*another process may hold it"):
            FrameSender(context, address)
        with FrameReceiver(context, address, ["a/rgb"]) as receiver:
            handshake(first, receiver)


def test_an_ipc_file_of_a_dead_process_is_taken_over(context: Context, tmp_path: Path) -> None:
    path = tmp_path / "frames"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    with FrameSender(context, f"ipc://{path}") as sender, FrameReceiver(context, f"ipc://{path}", ["a/rgb"]) as reader:
        handshake(sender, reader)


def test_a_file_that_is_no_socket_is_never_replaced_by_one(context: Context, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(UsageError, match="a file that is no socket is there; choose another path"):
        FrameSender(context, f"ipc://{path}")
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("address", "advice"),
    [
        ("ipc://{tmp}/nowhere/frames", "make its folder first"),
        ("ipc://{tmp}/" + "x" * 110, "at most 107 bytes; choose a shorter one"),
        ("ipc://{tmp}/file/frames", "a part of its path is a file"),
        ("tcp://192.0.2.1:5555", "this machine has no such address"),
    ],
)
def test_what_cannot_be_bound_says_what_to_do(context: Context, tmp_path: Path, address: str, advice: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=advice):
        FrameSender(context, address.format(tmp=tmp_path), insecure=True)


def test_a_larger_message_binds_an_ipc_path_again(context: Context, tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/frames"
    with FrameSender(context, address, buffer_bytes=1 << 20, message_bytes=1 << 10) as sender:
        before = sender.hwm
        sender.send([b"a/rgb", bytes(1 << 17)])
        assert sender.hwm < before
        with FrameReceiver(context, address, ["a/rgb"]) as receiver:
            handshake(sender, receiver)


def test_of_a_message_of_many_parts_four_are_kept_and_the_next_one_is_whole(context: Context) -> None:
    with FrameSender(context, ANY_PORT) as sender, FrameReceiver(context, sender.address, ["a/rgb"]) as receiver:
        handshake(sender, receiver)
        sender.send([b"a/rgb", *[bytes(1 << 10)] * 100])
        sender.send([b"a/rgb", b"header", b"pixels"])
        assert len(parts_of(receiver.receive(WAIT))) == 4
        assert parts_of(receiver.receive(WAIT)) == [b"a/rgb", b"header", b"pixels"]


def test_messages_arrive_whole_with_their_stamps(context: Context) -> None:
    with FrameSender(context, ANY_PORT) as sender, FrameReceiver(context, sender.address, ["a/rgb"]) as receiver:
        handshake(sender, receiver)
        payload = bytes(range(256)) * 1000
        sender.send([b"a/rgb", b"header", memoryview(payload)])
        message = receiver.receive(WAIT)
        assert parts_of(message) == [b"a/rgb", b"header", payload]
        assert message is not None
        assert message.received > 0
        assert message.taken > 0


@pytest.mark.parametrize("size", [10, 500_000])
def test_nothing_is_lost_on_a_subscriber_that_keeps_up_however_small_the_queue(context: Context, size: int) -> None:
    sender = FrameSender(context, ANY_PORT, buffer_bytes=1, message_bytes=size)
    with sender, FrameReceiver(context, sender.address, ["a/rgb"]) as receiver:
        assert sender.hwm == MIN_SEND_HWM
        handshake(sender, receiver)
        for number in range(1000):
            sender.send([b"a/rgb", b"%d" % number, bytes(size)])
            assert parts_of(receiver.receive(WAIT))[1] == b"%d" % number


def test_only_subscribed_topics_come(context: Context) -> None:
    with FrameSender(context, ANY_PORT) as sender, FrameReceiver(context, sender.address, ["a/rgb"]) as receiver:
        handshake(sender, receiver)
        for topic in (b"a/depth", b"b/rgb", b"a/rgb"):
            sender.send([topic, b"x"])
        assert parts_of(receiver.receive(WAIT)) == [b"a/rgb", b"x"]


def test_receiving_gives_up_in_time(context: Context) -> None:
    with FrameReceiver(context, "tcp://127.0.0.1:9", ["a/rgb"]) as receiver:
        assert receiver.receive(0.01) is None
        assert receiver.receive(0) is None


def test_a_receiver_finds_the_publisher_that_comes_back(context: Context) -> None:
    first_context: Context = zmq.Context()
    first = FrameSender(first_context, ANY_PORT)
    address = first.address
    with FrameReceiver(context, address, ["a/rgb"]) as receiver:
        handshake(first, receiver)
        first.close()
        first_context.term()  # frees the port
        with FrameSender(context, address) as second:
            handshake(second, receiver)


def test_the_high_water_mark_is_the_buffer_over_the_size_of_a_message(context: Context) -> None:
    for message, mark in ((1 << 16, 16), (1 << 8, 1000), (1 << 24, MIN_SEND_HWM)):
        with FrameSender(context, ANY_PORT, buffer_bytes=1 << 20, message_bytes=message) as sender:
            assert sender.hwm == mark


def test_larger_messages_than_expected_keep_the_bound_and_the_subscribers(context: Context) -> None:
    with (
        FrameSender(context, ANY_PORT, buffer_bytes=8 << 20, message_bytes=1 << 10) as sender,
        FrameReceiver(context, sender.address, ["a/rgb"]) as receiver,
    ):
        address = sender.address
        handshake(sender, receiver)
        sender.send([b"a/rgb", bytes(1 << 20)])
        assert sender.hwm == 7
        assert sender.address == address
        handshake(sender, receiver)  # connected again
        for number in range(100):
            sender.send([b"a/rgb", b"%d" % number, bytes(1 << 20)])
            assert parts_of(receiver.receive(WAIT))[1] == b"%d" % number
        sender.send([b"a/rgb", b"small"])
        assert sender.hwm == 7


def test_a_subscriber_that_does_not_read_fills_no_more_than_the_buffer(context: Context) -> None:
    size, count = 1 << 20, 300
    with (
        FrameSender(context, ANY_PORT, buffer_bytes=8 * size, message_bytes=size) as sender,
        FrameReceiver(context, sender.address, ["a/rgb"], hwm=2) as receiver,
    ):
        handshake(sender, receiver)
        for number in range(count):  # nobody reads
            sender.send([b"a/rgb", b"%d" % number, bytes(size)])
        got = []
        while (message := receiver.receive(0.5)) is not None:
            got.append(int(parts_of(message)[1]))
    # What was kept is in the two queues and in the kernel's buffers (a few MiB); the rest was dropped.
    assert len(got) >= 4
    assert got == sorted(set(got))
    assert len(got) < count / 4


def test_a_stalled_subscriber_takes_nothing_from_another(context: Context) -> None:
    with (
        FrameSender(context, ANY_PORT, buffer_bytes=32 << 20, message_bytes=1 << 20) as sender,
        FrameReceiver(context, sender.address, ["a/rgb"], hwm=2) as stalled,
        FrameReceiver(context, sender.address, ["a/rgb"]) as reader,
    ):
        handshake(sender, stalled)
        handshake(sender, reader)
        for number in range(100):
            sender.send([b"a/rgb", b"%d" % number, bytes(1 << 20)])
            assert parts_of(reader.receive(WAIT))[1] == b"%d" % number


@pytest.fixture
def keys(tmp_path: Path) -> CurveKeys:
    zmq.auth.create_certificates(tmp_path, "sim-bridge")
    return CurveKeys.load(tmp_path)


def test_with_keys_frames_pass_and_strangers_get_nothing(
    context: Context, keys: CurveKeys, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="zmq.auth")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    zmq.auth.create_certificates(elsewhere, "sim-bridge")
    own = CurveKeys.load(elsewhere)
    other: Context = zmq.Context()
    stranger = other.socket(zmq.SUB)
    stranger.linger = 0
    stranger.curve_publickey, stranger.curve_secretkey = own.public, own.secret
    stranger.curve_serverkey = keys.public  # it knows the server's key, but its own is not in the folder
    stranger.subscribe("")
    with (
        FrameSender(context, ANY_PORT, keys=keys) as sender,
        FrameReceiver(other, sender.address, ["a/rgb"], keys=keys) as friend,
        FrameReceiver(other, sender.address, ["a/rgb"]) as plain,
    ):
        stranger.connect(sender.address)
        handshake(sender, friend)
        for _ in range(20):
            sender.send([b"a/rgb", b"secret"])
            assert parts_of(friend.receive(WAIT)) == [b"a/rgb", b"secret"]
        assert plain.receive(0.2) is None
        assert not stranger.poll(200)
    stranger.close()
    other.term()


def test_missing_keys_say_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="create_certificates"):
        CurveKeys.load(tmp_path)


def test_a_public_key_alone_is_refused(tmp_path: Path) -> None:
    public, _ = zmq.auth.create_certificates(tmp_path, "other")
    Path(public).rename(tmp_path / "sim-bridge.key_secret")
    with pytest.raises(UsageError, match="holds no secret key"):
        CurveKeys.load(tmp_path)


def test_a_key_file_of_nonsense_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sim-bridge.key_secret").write_text("curve\n  public-key = broken\n")
    with pytest.raises(UsageError, match="holds no secret key"):
        CurveKeys.load(tmp_path)
