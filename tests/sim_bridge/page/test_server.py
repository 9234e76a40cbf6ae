"""The page's server on real sockets: pictures of one pair, newest wins, controls, who may come in, the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import select
import socket
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("starlette", reason="the page needs the extra 'page': pip install '.[page]'")

from prometheus_client.parser import text_string_to_metric_families

from sim_bridge.errors import SimBridgeError, UsageError
from sim_bridge.frames import FrameId, Kind
from sim_bridge.page import connections, server
from sim_bridge.page.hub import MAX_IN_FLIGHT, SILENT_SECONDS, Hub
from sim_bridge.translators import ByteArray, Control, Shot, Style, Translation, Translator
from tests.sim_bridge.bridge_helpers import (
    WAIT,
    BlockingTranslator,
    Reader,
    StampTranslator,
    label_stamp,
    make_frame,
    make_pair,
    rgb_stamp,
)
from tests.sim_bridge.page.page_helpers import ALL_PANELS, RefusedError, Shown, WebClient, showing

TOKEN = "a-token-of-some-length"


class Styled(StampTranslator):
    """Shows the style in its pictures, and has edge maps of both kinds."""

    @property
    def styles(self) -> tuple[Control, ...]:
        return (
            Control("seed", "seed", "Seed", high=1048575),
            Control("ensemble", "weights", "Ensemble weights", names=tuple("abcdef")),
        )

    def translate(self, shots: Sequence[Shot]) -> Sequence[Translation]:
        return [self._translate(shot) for shot in shots]

    def _translate(self, shot: Shot) -> Translation:
        out = np.full_like(shot.rgb, shot.style.seed % 256)
        weights = shot.style.get("ensemble", (1 / 6,) * 6)
        assert isinstance(weights, tuple)
        if "ensemble" in shot.style:
            out[..., 0] = round(100 * weights[0])
        return Translation(out, shot.labels * np.uint8(9), Style(ensemble=weights))

    def edge_map(self, rgb: ByteArray) -> ByteArray:
        return np.where(rgb[..., 0] > 0, np.uint8(255), np.uint8(0))


def image(payload: bytes) -> ByteArray:
    decoded = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    return np.asarray(decoded, np.uint8)


def noise(number: int, size: tuple[int, int]) -> tuple[Any, Any]:
    """A pair whose CG picture compresses badly."""
    rgb, semantic = make_pair(number, size=size)
    rgb.pixels.view(np.uint8)[...] = np.random.default_rng(number).integers(0, 256, rgb.pixels.shape, np.uint8)
    return rgb, semantic


def test_the_pictures_are_those_of_one_published_pair() -> None:
    with showing(Styled(), style_seed=40) as shown, WebClient(shown.port) as client:
        client.watch()
        shown.simulator.send(*make_pair(5))
        tick = client.tick()
        photoreal = shown.reader.frame()
        assert set(tick) == set(ALL_PANELS)
        for picture in tick.values():
            assert (picture.header["camera"], picture.header["session"], picture.header["frame"]) == ("camera", "s", 5)
        assert image(tick["labels"].payload).tolist() == [[label_stamp(FrameId("s", 5))] * 16] * 8
        assert tick["labels"].header["taxonomy"] == "cityscapes-train"
        assert np.abs(image(tick["photoreal"].payload).astype(int) - 40).max() <= 1
        assert np.abs(image(tick["cg"].payload)[0, 0, ::-1].astype(int) - rgb_stamp(FrameId("s", 5))).max() <= 2
        assert (image(tick["laplacian"].payload) == 255).all()
        assert abs(int(image(tick["dned"].payload)[0, 0]) - 9 * label_stamp(FrameId("s", 5))) <= 1
        made = photoreal.provenance
        header = tick["photoreal"].header
        assert made is not None
        assert (header["model"], header["seed"], header["published"]) == (made.model, 40, made.published)


def test_a_network_without_edges_says_so_by_an_empty_picture() -> None:
    with showing(StampTranslator()) as shown, WebClient(shown.port) as client:
        client.watch()
        shown.simulator.send(*make_pair(1))
        tick = client.tick()
        assert (tick["dned"].payload, tick["laplacian"].payload) == (b"", b"")
        assert tick["photoreal"].payload and tick["dned"].header["used"] == {}


def test_a_picture_that_cannot_be_made_is_a_sentence_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Styled):
        def edge_map(self, rgb: ByteArray) -> ByteArray:
            raise RuntimeError("CUDA error: out of memory\nand much more")

    with caplog.at_level(logging.ERROR), showing(Broken()) as shown, WebClient(shown.port) as client:
        client.watch(panels=("laplacian", "photoreal"))
        for number in range(1, 6):
            shown.simulator.send(*make_pair(number))
            tick = client.tick()
            assert tick["photoreal"].header["frame"] == number and tick["photoreal"].payload
            assert tick["laplacian"].payload == b""
            said = tick["laplacian"].header["error"]
            assert "laplacian picture cannot be made (CUDA error: out of memory)" in said and "\n" not in said
        client.send(op="still", panel="laplacian")
        assert "CUDA error: out of memory" in client.text("error")["text"]
        client.send(op="still", panel="photoreal")
        assert client.picture("still").payload
    assert [record.levelname for record in caplog.records if "cannot be made" in record.message] == ["ERROR"]


def test_a_page_that_can_be_sent_nothing_more_is_closed_so_that_it_comes_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(tick: object) -> dict[str, object]:
        raise RuntimeError("a fault of the page's own")

    with showing(Styled()) as shown, WebClient(shown.port) as client:
        with monkeypatch.context() as patch:
            patch.setattr("sim_bridge.page.hub.describe", fail)
            client.watch(panels=("cg",))
            shown.simulator.send(*make_pair(1))
            with pytest.raises(ConnectionError, match="1011"):
                client.picture()
        assert "a fault of the page's own" in caplog.text
        with WebClient(shown.port) as again:
            again.watch(panels=("cg",))
            assert again.tick()["cg"].header["frame"] == 1


def test_who_comes_late_sees_the_last_frame_also_while_paused() -> None:
    with showing(Styled()) as shown:
        with WebClient(shown.port) as first:
            first.watch()
            shown.simulator.send(*make_pair(7))
            first.tick()
        shown.bridge.pause()
        with WebClient(shown.port) as client:
            client.watch(panels=("cg",))
            assert client.tick()["cg"].header["frame"] == 7


def test_newest_wins_for_a_client_that_is_slow() -> None:
    with showing(Styled()) as shown, WebClient(shown.port) as client:
        client.watch(panels=("photoreal",))
        numbers = []
        for number in range(1, 21):
            shown.simulator.send(*make_pair(number))
            shown.reader.frame()
            if len(numbers) < MAX_IN_FLIGHT:
                numbers.append(client.tick(acknowledge=False)["photoreal"].header["frame"])
        shown.reader.status(until=lambda s: s.counters[f"camera/{Kind.RGB}"]["published"] == 20)
        client.send(op="shown", tick=1)
        assert numbers == [1, 2]
        assert client.tick()["photoreal"].header["frame"] == 20


def test_a_client_that_stops_reading_slows_nobody() -> None:
    frames = 40
    with (
        showing(Styled(), status_interval=0.5) as shown,
        WebClient(shown.port, receive_buffer=4096) as dead,
        WebClient(shown.port) as alive,
    ):
        for client in (dead, alive):
            client.watch(panels=("cg", "photoreal", "labels"))
        seen = []
        for number in range(1, frames + 1):
            shown.simulator.send(*noise(number, (1280, 720)))
            assert shown.reader.frame().number == number  # nothing is superseded: the bridge keeps up
            seen.append(alive.tick()["cg"].header["frame"])
        assert seen == list(range(1, frames + 1))
        published = shown.reader.status(until=lambda s: s.counters["camera/photoreal"]["published"] == frames)
        assert published.counters[f"camera/{Kind.RGB}"]["superseded"] == 0
        dead.send(op="nonsense")
        waiting: list[int] = []
        while True:  # what was on its way when it stopped, and not more
            message = dead.message()
            if isinstance(message, dict):
                if message["type"] == "error":
                    break
            elif message.header["kind"] == "cg":
                waiting.append(message.header["frame"])
        assert len(waiting) <= MAX_IN_FLIGHT and waiting[:1] == [1]


def test_nothing_is_encoded_for_a_camera_nobody_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    monkeypatch.setattr("sim_bridge.page.hub.encode", lambda tick, panel: encoded.append(tick.camera) or b"x")
    with showing(Styled(), topics=("left", "right")) as shown, WebClient(shown.port) as client:
        client.watch("right", ("cg",))
        client.text("hello")
        client.send(op="nonsense")
        client.text("error")  # so that the order before has been followed
        shown.simulator.send(*make_pair(1, camera="left"))
        shown.reader.frame()
        shown.simulator.send(*make_pair(1, camera="right"))
        assert client.tick()["cg"].header["camera"] == "right"
        client.watch("right", ())
        client.send(op="nonsense")
        client.text("error")
        shown.simulator.send(*make_pair(2, camera="right"))
        shown.simulator.send(*make_pair(2, camera="left"))
        shown.reader.frame()
    assert encoded == ["right"]


def test_the_greeting_and_the_status_say_what_the_bridge_says() -> None:
    with showing(Styled(), topics=("left", "right"), status_interval=0.1) as shown, WebClient(shown.port) as client:
        hello = client.text("hello")
        assert hello["cameras"] == ["left", "right"]
        assert hello["bundles"][0] == "null" and "superseded" in hello["outcomes"]
        first = client.text("status", lambda s: s["camera"] == "left")
        assert first["silent"] and first["silence"] is None
        shown.simulator.send(*make_pair(1, camera="left"))
        said = client.text("status", lambda s: s.get("counters", {}).get("left/rgb", {}).get("published") == 1)
        sent = shown.reader.status(until=lambda s: s.counters["left/rgb"]["published"] == 1)
        assert said["counters"] == sent.counters and not said["silent"] and said["silence"] < 3
        assert set(said["latency_ms"]) == set(sent.latency_ms) and said["state"] == sent.state == "running"


def test_orders_change_the_style_and_every_page_hears_of_it() -> None:
    with showing(Styled()) as shown, WebClient(shown.port) as one, WebClient(shown.port) as other:
        one.watch(panels=("photoreal",))
        one.send(op="style", camera="camera", style={"seed": 77})
        assert other.text("status", lambda s: s["style"] == {"seed": 77})["controls"][1]["names"] == list("abcdef")
        shown.simulator.send(*make_pair(1))
        assert (image(one.tick()["photoreal"].payload) == 77).all()
        one.send(op="style", camera="camera", style={"seed": 77, "ensemble": [1, 0, 0, 0, 0, 0.5]})
        other.text("status", lambda s: s["style"].get("ensemble") == [1, 0, 0, 0, 0, 0.5])
        shown.simulator.send(*make_pair(2))
        header = one.tick()["photoreal"].header
        assert header["style"] == {"ensemble": [1, 0, 0, 0, 0, 0.5]}
        assert shown.bridge.style("camera") == Style(seed=77, ensemble=(1, 0, 0, 0, 0, 0.5))


def test_pause_step_and_resume() -> None:
    with showing(Styled()) as shown, WebClient(shown.port) as client:
        client.send(op="pause")
        assert client.text("status", lambda s: s["state"] == "paused")
        shown.simulator.send(*make_pair(1))
        shown.reader.status(until=lambda s: s.counters[f"camera/{Kind.RGB}"]["paused"] == 1)
        client.send(op="step")
        client.send(op="nonsense")
        client.text("error")
        shown.simulator.send(*make_pair(2))
        assert shown.reader.frame().number == 2
        shown.simulator.send(*make_pair(3))
        shown.reader.status(until=lambda s: s.counters[f"camera/{Kind.RGB}"]["paused"] == 2)
        client.send(op="resume")
        client.text("status", lambda s: s["state"] == "running")
        shown.simulator.send(*make_pair(4))
        assert shown.reader.frame().number == 4


def test_silence_is_what_the_status_messages_say_however_rare_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("sim_bridge.page.hub.time", clock)

    async def look(shown: Shown) -> None:
        hub = Hub(shown.bridge, asyncio.get_running_loop())

        async def silence_at(now: float) -> object:
            clock.now = now
            hub.on_status("camera", {})
            await asyncio.sleep(0)
            return hub.view("camera")["silence"]

        assert await silence_at(100) is None and hub.view("camera")["silent"]
        shown.simulator.send(*make_pair(1))
        shown.reader.frame()
        assert await silence_at(110) == 0
        clock.now = 110 + 2 * SILENT_SECONDS  # between two status messages nobody knows
        assert not hub.view("camera")["silent"]
        shown.simulator.send(*make_pair(2))
        shown.reader.frame()
        assert await silence_at(120) == 0
        assert await silence_at(130) == 10 and hub.view("camera")["silent"]
        hub.close()

    with showing(Styled()) as shown:
        asyncio.run(look(shown))


@pytest.mark.parametrize("op", ["resume", "step"])
def test_a_simulator_that_waited_for_a_pause_to_end_was_not_gone(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("sim_bridge.page.hub.time", clock)
    with showing(Styled(), status_interval=0.1) as shown, WebClient(shown.port) as client:
        shown.simulator.send(*make_pair(1))
        client.text("status", lambda s: s["silence"] == 0)
        client.send(op="pause")
        client.text("status", lambda s: s["state"] == "paused")
        clock.now += 60
        client.text("status", lambda s: s["silent"] and s["silence"] == 60)
        client.send(op=op)
        assert not client.text("status", lambda s: s["silence"] != 60)["silent"]
        client.send(op="resume")
        client.text("status", lambda s: s["state"] == "running" and s["silence"] == 0)
        clock.now += 60
        assert client.text("status", lambda s: s["silent"])["silence"] == 60
        client.send(op=op)  # no pause ends by it
        client.send(op="nonsense")
        client.text("error")
        assert client.text("status")["silence"] == 60


def test_another_bundle_and_one_that_cannot_be_loaded() -> None:
    class Other(Styled):
        @property
        def model_id(self) -> str:
            return "b" * 12

    def load(name: str) -> Translator:
        if name == "null":
            return Other()
        raise UsageError(f"the bundle {name} is broken: build it anew")

    with showing(Styled(), bundle="mine", load=load) as shown, WebClient(shown.port) as client:
        assert client.text("hello")["bundles"][0] == "mine"
        client.send(op="bundle", bundle="null")
        done = client.text("status", lambda s: s["bundle"]["model"] == "b" * 12)
        assert done["bundle"] == {"name": "null", "model": "b" * 12, "loading": None, "error": None}
        client.send(op="bundle", bundle="mine")
        kept = client.text("status", lambda s: s["bundle"]["error"] is not None)
        assert kept["bundle"]["name"] == "null" and "mine is broken" in kept["bundle"]["error"]
        client.send(op="bundle", bundle="/etc")
        assert "'/etc' is not among mine" in client.text("error")["text"]
        assert shown.bridge.bundles.state.loading is None


def test_a_still_is_the_frame_on_the_screen_without_loss_and_with_its_metadata() -> None:
    with showing(Styled()) as shown, WebClient(shown.port) as client:
        client.send(op="still", panel="cg")
        assert "no cg picture to save" in client.text("error")["text"]
        client.watch(panels=("cg",))
        rgb, semantic = noise(3, (64, 32))
        shown.simulator.send(rgb, semantic)
        client.tick()
        client.send(op="still", panel="cg")
        still = client.picture("still")
        assert np.array_equal(image(still.payload)[..., ::-1], rgb.pixels)
        text = metadata_of(still.payload)
        assert (text["frame"], text["session"], text["panel"], text["seed"]) == (3, "s", "cg", 0)
        assert text["used"]["ensemble"] == pytest.approx([1 / 6] * 6)


def metadata_of(png: bytes) -> dict[str, Any]:
    """The JSON in a PNG's text chunk; every checksum is checked."""
    found, position = {}, 8
    while position < len(png):
        length = int.from_bytes(png[position : position + 4])
        body = png[position + 4 : position + 8 + length]
        assert zlib.crc32(body) == int.from_bytes(png[position + 8 + length : position + 12 + length])
        if body[:4] == b"iTXt":
            keyword, _, text = body[4:].partition(b"\0\0\0\0\0")
            found[keyword] = json.loads(text)
        position += 12 + length
    result: dict[str, Any] = found[b"sim-bridge"]
    return result


@pytest.mark.parametrize(
    "order",
    [
        "no json",
        "[]",
        '{"op":"nonsense"}',
        '{"op":"watch","camera":"nobody","panels":[]}',
        '{"op":"watch","camera":"camera","panels":["all"]}',
        '{"op":"style","camera":"camera","style":{"seed":-1}}',
        '{"op":"style","camera":"camera","style":{"seed":1048576}}',
        '{"op":"style","camera":"camera","style":{"ensemble":[0,0,0,0,0,0]}}',
        '{"op":"style","camera":"camera","style":{"ensemble":[1,1,1]}}',
        '{"op":"style","camera":"camera","style":{"ensemble":[NaN,1,1,1,1,1]}}',
        '{"op":"style","camera":"camera","style":{"mood":"dusk"}}',
        '{"op":"style","camera":"camera","style":{"seed":true}}',
        '{"op":"pause","more":1}',
    ],
)
def test_a_wrong_order_is_a_sentence_and_changes_nothing(order: str) -> None:
    with showing(Styled()) as shown, WebClient(shown.port) as client:
        client.send_text(order)
        sentence = client.text("error")["text"]
        assert sentence and "\n" not in sentence
        assert shown.bridge.style("camera") == Style(seed=0) and shown.bridge.state == "running"


METRIC_TYPES = {
    **dict.fromkeys(("sim_bridge_received_messages", "sim_bridge_messages", "sim_bridge_stray_pixels"), "counter"),
    **{f"sim_bridge_{name}_frames": "counter" for name in ("published", "fallback", "repeated")},
    **{f"sim_bridge_{name}": "gauge" for name in ("info", "state", "in_flight_messages", "latency_seconds")},
    "sim_bridge_page_clients": "gauge",
}
"""The parser takes ``_total`` off a counter's name."""


def test_healthz_metrics_and_taxonomies() -> None:
    with showing(Styled(), status_interval=0.1) as shown:
        answer, body = shown.get("/healthz")
        assert (answer.status, json.loads(body)) == (200, {"state": "running"})
        shown.simulator.send(*make_pair(1))
        shown.simulator.send(make_frame(Kind.RGB, 1))
        shown.reader.status(until=lambda s: s.counters[f"camera/{Kind.RGB}"]["duplicate"] == 1)
        answer, body = shown.get("/metrics")
        assert answer.getheader("content-type") == "text/plain; version=0.0.4; charset=utf-8"
        families = {family.name: family for family in text_string_to_metric_families(body)}
        assert {name: family.type for name, family in families.items()} == METRIC_TYPES
        samples = [sample for family in families.values() for sample in family.samples]
        values = {(s.name, *(f"{key}={label}" for key, label in sorted(s.labels.items()))): s.value for s in samples}
        assert values["sim_bridge_received_messages_total", "topic=camera/rgb"] == 2
        assert values["sim_bridge_messages_total", "outcome=published", "topic=camera/rgb"] == 1
        assert values["sim_bridge_messages_total", "outcome=duplicate", "topic=camera/rgb"] == 1
        assert values["sim_bridge_published_frames_total", "camera=camera"] == 1
        assert values["sim_bridge_latency_seconds", "quantile=0.99", "stage=network"] > 0
        assert values["sim_bridge_state", "state=running"] == 1 and values["sim_bridge_state", "state=paused"] == 0
        assert values["sim_bridge_page_clients",] == 0
        (info,) = families["sim_bridge_info"].samples
        assert info.labels.keys() == {"version", "bundle", "model", "mode"}
        assert "# TYPE sim_bridge_messages_total counter\n" in body
        answer, body = shown.get("/taxonomies/carla-0.9.14")
        assert json.loads(body)["classes"]["14"] == {"name": "car", "color": [0, 0, 142]}
        assert shown.get("/taxonomies/nothing")[0].status == 404


def test_healthz_tells_a_bridge_that_is_loading_or_ending() -> None:
    hanging = BlockingTranslator()
    with showing(hanging) as shown:
        shown.simulator.send(*make_pair(1))
        hanging.entered.acquire()
        shown.bridge.stop()
        shown.reader.status(until=lambda s: s.state == "stopping")
        assert shown.get("/healthz")[0].status == 503
        hanging.go.release()


def test_every_file_of_the_page_is_served_with_its_type_and_guarded() -> None:
    with showing(Styled()) as shown:
        answer, html = shown.get("/")
        assert answer.status == 200 and "default-src 'none'" in str(answer.getheader("content-security-policy"))
        assert "http" not in html.replace("http-equiv", ""), "the page loads nothing from elsewhere"
        static = Path("sim_bridge/page/static")
        for file in (Path(__file__).parents[3] / static).iterdir():
            answer, _ = shown.get(f"/static/{file.name}")
            kind = {".js": "javascript", ".css": "css", ".svg": "svg", ".html": "html"}[file.suffix]
            assert answer.status == 200 and kind in str(answer.getheader("content-type"))
        assert shown.get("/static/../server.py")[0].status == 404


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "", "127.0.0.1@evil"]
)
def test_a_foreign_host_name_is_refused(host: str) -> None:
    with showing(Styled()) as shown:
        named = host.format(port=shown.port)
        assert shown.get("/", Host=named)[0].status == 403
        if named:
            with pytest.raises(RefusedError, match="403"):
                WebClient(shown.port, host=named)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://["])
def test_a_foreign_page_may_not_open_the_websocket(origin: str) -> None:
    with showing(Styled()) as shown:
        with pytest.raises(RefusedError, match="403"):
            WebClient(shown.port, origin=origin)
        with WebClient(shown.port, origin=f"http://127.0.0.1:{shown.port}") as client:
            client.text("hello")
        with WebClient(shown.port, host="localhost:9000", origin="http://localhost:9000") as client:  # ssh -L 9000:...
            client.text("hello")


def test_with_a_token_nobody_comes_in_without_it() -> None:
    with showing(Styled(), page_host="0.0.0.0", page_token=TOKEN) as shown:
        for path in ("/", "/static/app.js", "/metrics", "/healthz", "/?token=wrong-token-of-length"):
            answer, sentence = shown.get(path)
            assert (answer.status, answer.getheader("www-authenticate")) == (401, "Bearer") and "token" in sentence
        with pytest.raises(RefusedError, match="401"):
            WebClient(shown.port)
        for scheme in ("Bearer", "bearer", "BEARER"):
            assert shown.get("/metrics", Authorization=f"{scheme} {TOKEN}")[0].status == 200
        for wrong in (TOKEN, f"Basic {TOKEN}"):
            assert shown.get("/metrics", Authorization=wrong)[0].status == 401
        answer, _ = shown.get(f"/?token={TOKEN}")
        for path in ("//evil.example", "/%2fevil.example", "/%5cevil.example"):
            there, _ = shown.get(f"{path}?token={TOKEN}")
            location = str(there.getheader("location"))
            assert there.status == 303 and location[0] == "/" and location[1:2] not in ("/", "\\")
        cookie = str(answer.getheader("set-cookie"))
        assert (answer.status, answer.getheader("location")) == (303, "/")
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie and TOKEN not in cookie
        ticket = cookie.partition(";")[0]
        assert shown.get("/", Cookie=ticket)[0].status == 200
        with WebClient(shown.port, cookie=ticket) as client:
            client.text("hello")


def test_half_a_request_is_dropped_in_time_and_a_whole_one_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    with showing(Styled()) as shown, socket.create_connection(("127.0.0.1", shown.port), WAIT) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: 127")
        assert slow.recv(1) == b""
        with socket.create_connection(("127.0.0.1", shown.port), WAIT) as again:
            again.sendall(f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{shown.port}\r\n\r\nGET /".encode())
            answer = b""
            while part := again.recv(4096):
                answer += part
        assert answer.startswith(b"HTTP/1.1 200")


def test_connections_above_the_limit_are_closed_and_pages_stay_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 8)
    with showing(Styled()) as shown, contextlib.ExitStack() as stack:
        page = stack.enter_context(contextlib.closing(WebClient(shown.port)))
        held = [stack.enter_context(socket.create_connection(("127.0.0.1", shown.port), WAIT)) for _ in range(12)]
        assert sum(not select.select([one], [], [], 1)[0] for one in held) <= 7
        assert isinstance(page.message(), dict)


def test_a_page_that_does_not_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no hub today")

    monkeypatch.setattr(server, "Hub", fail)
    with pytest.raises(SimBridgeError, match=r"did not start \(no hub today\): leave --page away"), showing(Styled()):
        pass


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(UsageError, match=rf"127\.0\.0\.1:{port} is in use: give another port"),
            showing(Styled(), page=port),
        ):
            pass
    with (
        pytest.raises(UsageError, match="cannot be listened on"),
        showing(Styled(), page_host="no-such-host.invalid", page_token=TOKEN),
    ):
        pass


def test_the_page_ends_and_tells_its_clients_even_one_that_does_not_read() -> None:
    with (
        showing(Styled()) as shown,
        WebClient(shown.port, receive_buffer=4096) as dead,
        WebClient(shown.port) as client,
    ):
        dead.watch()
        client.text("hello")
        for number in range(1, 4):
            shown.simulator.send(*noise(number, (1280, 720)))
            shown.reader.frame()
        shown.page.close()
        with pytest.raises(ConnectionError):
            while True:
                client.message()
        assert not shown.bridge.tap.is_open
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", shown.port), timeout=1)


def test_a_reader_of_the_wire_sees_the_same_with_and_without_the_page() -> None:
    with showing(Styled()) as shown, Reader(shown.bridge.output_address) as second, WebClient(shown.port) as client:
        client.watch()
        shown.simulator.send(*make_pair(1))
        client.tick()
        assert np.array_equal(shown.reader.frame().pixels, second.frame().pixels)


def test_a_frame_number_that_javascript_has_no_number_for_keeps_its_digits() -> None:
    with showing(Styled()) as shown, contextlib.closing(WebClient(shown.port)) as page:
        page.watch()
        for number, told in ((2**53, 2**53), (2**60 + 1, str(2**60 + 1))):
            shown.simulator.send(*make_pair(number))
            assert {picture.header["frame"] for picture in page.tick().values()} == {told}
