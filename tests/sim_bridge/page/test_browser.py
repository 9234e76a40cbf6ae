"""The page in a real browser: headless Chromium, the bridge with a real network, a simulator on a real socket.

The simulator sends the same picture under rising frame numbers, so that the photoreal picture changes when the style
does and for no other reason. Screenshots are kept in ``out/page/``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("starlette", reason="the page needs the extra 'page': pip install '.[page]'")
pytest.importorskip("torch", reason="the page's tests run a real network: pip install '.[engine]'")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="the browser is driven by playwright: pip install '.[test]'"
)

import torch  # noqa: E402
from playwright.sync_api import Browser, Page, expect, sync_playwright  # noqa: E402

from models.edges import EdgeSettings  # noqa: E402
from models.nets.sflow import SFlowNetwork  # noqa: E402
from sim_bridge.frames import ByteArray  # noqa: E402
from sim_bridge.page import hub  # noqa: E402
from sim_bridge.translators.device import Target  # noqa: E402
from sim_bridge.translators.sflow import SFlowTranslator  # noqa: E402
from tests.sim_bridge.bridge_helpers import CLASSES, make_pair  # noqa: E402
from tests.sim_bridge.page.page_helpers import Shown, showing  # noqa: E402
from tests.sim_bridge.page.test_server import metadata_of  # noqa: E402

ROOT = Path(__file__).parents[3]
SHOTS = ROOT / "out" / "page"
SIZE = (128, 64)
PERIOD = 0.05  # seconds between two frames
WAIT_MS = 20_000
CHROMIUM = os.environ.get("SIM_BRIDGE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium: apt-get install chromium, or set SIM_BRIDGE_CHROMIUM to its path"
)


class Feeder:
    """Sends the same street under rising frame numbers until it is stopped."""

    def __init__(self, shown: Shown, session: str = "s", *cameras: str) -> None:
        self._shown = shown
        self._session, self._cameras = session, cameras or ("camera",)
        self._stop = threading.Event()
        self.sent = 0
        """Ticks sent; final when it is stopped."""
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        pictures, ids = street()
        for number in itertools.count(1):
            self.sent = number
            for camera in self._cameras:
                rgb, semantic = make_pair(number, self._session, camera=camera, size=SIZE)
                rgb.pixels.view(np.uint8)[...] = pictures
                semantic.pixels.view(np.uint8)[...] = ids
                self._shown.simulator.send(rgb, semantic)
            if self._stop.wait(PERIOD):
                return

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def __enter__(self) -> Feeder:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def street() -> tuple[ByteArray, ByteArray]:
    """Blocks of one class and colour, uint8 ``(H, W, 3)`` and ``(H, W)``: left upper block is class 13, a car."""
    rng = np.random.default_rng(3)
    blocks = rng.integers(0, 19, (SIZE[1] // 16, SIZE[0] // 16), dtype=np.uint8)
    blocks[0, 0] = 13
    ids = blocks.repeat(16, 0).repeat(16, 1)
    colors = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    return colors[ids], ids


def make_translator(seed: int = 0) -> SFlowTranslator:
    torch.manual_seed(seed)
    network = SFlowNetwork("lite", len(CLASSES), EdgeSettings(), style_input=True).eval()
    cpu = Target(torch.device("cpu"), torch.float32)
    return SFlowTranslator(network, name="random", model_id="0123456789ab", classes=CLASSES, target=cpu)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def shown() -> Iterator[Shown]:
    with showing(make_translator(), bundle="camvid-lite", status_interval=0.2) as started:
        yield started


@contextlib.contextmanager
def looking(browser: Browser, shown: Shown, **options: Any) -> Iterator[Page]:
    """The page in a browser window of its own; at the end nothing may have gone wrong in its console."""
    context = browser.new_context(viewport=options.pop("viewport", {"width": 1440, "height": 900}), **options)
    context.set_default_timeout(WAIT_MS)
    page, complaints = context.new_page(), list[str]()
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(shown.page.address)
    yield page
    context.close()
    assert complaints == []


expect.set_options(timeout=WAIT_MS)


def wait_for_frame(page: Page, at_least: int = 1) -> int:
    """Waits until the page has drawn a frame of that number or a later one; its number."""
    for _ in range(1000):
        frame = int(page.locator("body[data-frame]").get_attribute("data-frame") or 0)
        if frame >= at_least:
            return frame
        # The next change of the attribute, not a time: two animation frames are the soonest it can come.
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    raise AssertionError(f"frame {at_least} was not drawn")


def pixels(page: Page, selector: str) -> ByteArray:
    """What a canvas holds, uint8 ``(H, W, 4)`` RGBA."""
    width, height, data = page.evaluate(
        """selector => {
            const canvas = document.querySelector(selector);
            const copy = new OffscreenCanvas(canvas.width, canvas.height);
            const context = copy.getContext("2d", {willReadFrequently: true});
            context.drawImage(canvas, 0, 0);
            const image = context.getImageData(0, 0, canvas.width, canvas.height);
            return [canvas.width, canvas.height, Array.from(image.data)];
        }""",
        selector,
    )
    return np.array(data, np.uint8).reshape(height, width, 4)


def screenshot(page: Page, selector: str) -> ByteArray:
    decoded = cv2.imdecode(np.frombuffer(page.locator(selector).screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(decoded, np.uint8)


def drawn_share(page: Page, selector: str, variable: str) -> float:
    """Which share of a chart has the colour of a CSS variable; curves are thin and their borders are blended."""
    color = page.evaluate("name => getComputedStyle(document.body).getPropertyValue(name).trim()", variable)
    wanted = [int(color[start : start + 2], 16) for start in (1, 3, 5)]
    near = np.abs(pixels(page, selector)[..., :3].astype(int) - wanted).max(-1) < 40
    return float((near & (pixels(page, selector)[..., 3] > 100)).mean())


def wait_until_drawn(page: Page, selector: str, variable: str) -> None:
    """Waits until a curve of that colour is there: it takes two status messages."""
    for _ in range(1000):
        if drawn_share(page, selector, variable) > 0:
            return
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    raise AssertionError(f"{selector} has no curve of the colour {variable}")


PHOTOREAL = "figure[data-panel=photoreal] canvas"


def fact(page: Page, name: str) -> Any:
    return page.locator(f'dd[data-fact="{name}"]')


def test_shows_the_four_pictures_and_goes_on(browser: Browser, shown: Shown) -> None:
    rgb, ids = street()
    with Feeder(shown), looking(browser, shown) as page:
        first = wait_for_frame(page)
        assert wait_for_frame(page, first + 5) >= first + 5
        expect(page.locator("#state")).to_have_text("running")
        cg = pixels(page, "figure[data-panel=cg] canvas")[..., :3]
        assert np.abs(cg.astype(int) - rgb).mean() < 6  # JPEG rings at the blocks' borders
        palette = page.request.get(shown.page.address + "taxonomies/cityscapes-train").json()["classes"]
        expected = np.array([palette[str(number)]["color"] for number in ids.ravel()], np.uint8).reshape(*ids.shape, 3)
        assert np.array_equal(pixels(page, "figure[data-panel=labels] canvas")[..., :3], expected)
        assert pixels(page, PHOTOREAL)[..., :3].std() > 1
        box = page.locator("figure[data-panel=labels] canvas").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 5, box["y"] + 5)
        expect(page.locator("#pointed")).to_have_text("car (13)")
        expect(page.locator("#legend li.here")).to_contain_text("car")
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SHOTS / "laptop.png", full_page=True)


def test_the_edge_map_can_be_the_operators_or_the_networks(browser: Browser, shown: Shown) -> None:
    edges = "figure[data-panel=edges] "
    with Feeder(shown), looking(browser, shown) as page:
        expect(page.locator(edges + ".size")).to_contain_text("DNED")
        soft = pixels(page, edges + "canvas")[..., 0]
        page.keyboard.press("e")
        expect(page.locator(edges + ".size")).to_contain_text("Laplacian")
        hard = pixels(page, edges + "canvas")[..., 0]
        operator = make_translator().edge_map(street()[0])
        assert np.array_equal(hard, operator) and not np.array_equal(soft, hard)


def test_seed_and_sliders_change_the_picture_and_other_pages_follow(browser: Browser, shown: Shown) -> None:
    with Feeder(shown), looking(browser, shown) as page, looking(browser, shown) as other:
        wait_for_frame(page)
        learned = pixels(page, PHOTOREAL)
        page.get_by_label("Seed").fill("5")
        page.get_by_label("Seed").press("Enter")
        expect(fact(page, "Seed")).to_have_text("5")
        seeded = pixels(page, PHOTOREAL)
        assert not np.array_equal(seeded, learned)
        expect(other.get_by_label("Seed")).to_have_value("5")
        page.get_by_label("stride 32").focus()
        page.keyboard.press("End")
        expect(fact(page, "Seed")).to_have_text("5, weights by hand")
        expect(page.locator("#weights-from")).to_have_text("by hand")
        given = shown.bridge.style("camera")["ensemble"]
        assert given is not None and given[5] == 1
        wait_for_frame(page, int(page.locator("body").get_attribute("data-frame") or 0) + 1)
        assert not np.array_equal(pixels(page, PHOTOREAL), seeded)
        expect(other.locator("#weights-from")).to_have_text("by hand")
        page.get_by_role("button", name="Learned").click()
        expect(fact(page, "Seed")).to_have_text("0")
        assert np.array_equal(pixels(page, PHOTOREAL), learned)


def test_the_wipe_shows_cg_left_and_photoreal_right(browser: Browser, shown: Shown) -> None:
    with Feeder(shown), looking(browser, shown) as page:
        wait_for_frame(page)
        page.get_by_role("radio", name="Wipe").check()
        expect(page.locator("#wipe.filled")).to_be_visible()
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#state")).to_have_text("paused")
        expect(page.locator("#panels")).to_be_hidden()
        wipe = page.locator("#wipe-at")
        wipe.focus()
        shots = {}
        for at, key in ((100, "End"), (0, "Home")):
            page.keyboard.press(key)
            assert wipe.input_value() == str(at)
            shots[at] = screenshot(page, "#wipe-picture")
        box = page.locator("#wipe-picture").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 1, box["y"] + 9)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 9)
        page.mouse.up()
        assert abs(float(wipe.input_value()) - 50) <= 1
        half = screenshot(page, "#wipe-picture")
        quarter = half.shape[1] // 4
        assert np.array_equal(half[:, :quarter], shots[100][:, :quarter])
        # The last columns hold the handle in the shot where everything is CG, not in the one compared with here.
        assert np.array_equal(half[:, -quarter:], shots[0][:, -quarter:])
        assert not np.array_equal(shots[100][:, :quarter], shots[0][:, :quarter])


def test_pause_step_and_resume_by_keyboard(browser: Browser, shown: Shown) -> None:
    with Feeder(shown), looking(browser, shown) as page:
        wait_for_frame(page)
        page.keyboard.press("Space")
        expect(page.locator("#state")).to_have_text("paused")
        assert shown.bridge.state == "paused"
        paused_row = page.locator('#messages tr[data-outcome="paused"] td').first
        expect(paused_row).to_have_text(re.compile("[1-9]"))
        named = page.locator("#drop-key span", has_text="paused")
        color = str(named.get_attribute("style")).removeprefix("--c: var(").removesuffix(");")
        wait_until_drawn(page, "#drop-chart", color)
        drained = shown.reader.status(
            until=lambda s: s.state == "paused" and s.counters["camera/semantic"]["in_flight"] == 0
        )
        published = drained.counters["camera/photoreal"]["published"]
        before = wait_for_frame(page)
        page.keyboard.press(".")
        after = wait_for_frame(page, before + 1)
        expect(page.locator('#messages tr[data-outcome="published"] td').first).to_have_text(str(published + 1))
        page.get_by_role("button", name="Resume").click()
        expect(page.locator("#state")).to_have_text("running")
        wait_for_frame(page, after + 3)


def test_a_simulator_that_ended_is_said_also_while_paused(browser: Browser, shown: Shown) -> None:
    with Feeder(shown), looking(browser, shown) as page:
        wait_for_frame(page)
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#state")).to_have_text("paused")
        shown.bridge.report_simulator(ended=True)
        expect(page.locator("#state")).to_have_text("simulator gone")
        expect(page.locator("#notice")).to_contain_text("The simulator has ended")
        shown.bridge.report_simulator(ended=False)
        expect(page.locator("#state")).to_have_text("paused")
        expect(page.locator("#notice")).to_be_hidden()


def test_the_latency_chart_shows_the_stage_that_is_chosen(browser: Browser, shown: Shown) -> None:
    with Feeder(shown), looking(browser, shown) as page:
        stage = page.get_by_label("Stage of the latency chart")
        wait_until_drawn(page, "#latency-chart", "--out")
        wait_until_drawn(page, "#rate-chart", "--out")
        expect(page.locator("#rate-out")).to_have_text(re.compile("[0-9]"))
        expect(stage).to_have_value("end_to_end")
        before = pixels(page, "#latency-chart")
        stage.select_option("pair")
        wait_until_drawn(page, "#latency-chart", "--out")
        assert not np.array_equal(pixels(page, "#latency-chart"), before)


def test_the_counters_are_those_of_the_status_stream(browser: Browser, shown: Shown) -> None:
    with looking(browser, shown) as page:
        with Feeder(shown):
            wait_for_frame(page, 8)
        # Nothing moves any more. A frame whose partner was lost on the way stays in flight, and both must say so. How
        # many came is not known: those before the bridge had subscribed are lost.
        told = [shown.reader.status(until=lambda s: s.counters["camera/rgb"]["received"] > 0)]
        while len(told) < 2 or told[-1].counters != told[-2].counters:
            told.append(shown.reader.status())
        status = told[-1]
        for outcome, count in status.counters["camera/rgb"].items():
            row = page.locator(f'#messages tr[data-outcome="{outcome}"] td').first
            if count or outcome in ("superseded", "in_flight"):
                expect(row).to_have_text(str(count))
            else:
                expect(row).to_have_count(0)
        stages = page.locator("#stages tbody th").all_inner_texts()
        assert stages == [stage.replace("_", " ") for stage in status.latency_ms]


def test_a_simulator_that_is_gone_is_said_and_comes_back(
    browser: Browser, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "SILENT_SECONDS", 0.5)
    with looking(browser, shown) as page:
        page.add_init_script(
            """const now = performance.now.bind(performance);
            window.later = 0; // a session that begins anew after a short one is no news
            performance.now = () => now() + window.later;"""
        )
        page.reload()
        expect(page.locator("#notice")).to_contain_text(f"waiting for a simulator on {shown.simulator.address}")
        with Feeder(shown, "first"):
            wait_for_frame(page)
            expect(page.locator("#state")).to_have_text("running")
            expect(page.locator("#notice")).to_be_hidden()
        expect(page.locator("#state")).to_have_text("simulator gone")
        expect(page.locator("#notice")).to_contain_text("goes on by itself")
        page.evaluate("() => { window.later = 60_000; }")
        with Feeder(shown, "second"):
            expect(page.locator("#state")).to_have_text("running")
            expect(fact(page, "Session")).to_have_text("second")
            expect(page.locator("#notice")).to_contain_text("A new session began: second follows first")
        shown.page.close()
        expect(page.locator("#state")).to_have_text("bridge gone")
        page.evaluate("() => window.stop()")


def test_what_went_wrong_outlives_the_next_status_and_ends_with_the_next_action(browser: Browser, shown: Shown) -> None:
    with looking(browser, shown) as page:
        notice = page.locator("#notice")
        expect(notice).to_contain_text("waiting for a simulator")
        page.keyboard.press("s")
        expect(notice).to_contain_text("no photoreal picture to save")
        with Feeder(shown):  # what it counts comes with a later status
            expect(page.locator('#messages tr[data-outcome="published"] td').first).to_have_text(re.compile("[1-9]"))
            expect(notice).to_contain_text("no photoreal picture to save")
            page.keyboard.press("Space")
            expect(notice).to_be_hidden()


def test_frames_are_drawn_in_their_order_although_they_are_decoded_in_another(browser: Browser, shown: Shown) -> None:
    with Feeder(shown), looking(browser, shown) as page:
        page.add_init_script(
            """const decode = window.createImageBitmap;
            let decoded = 0;
            window.createImageBitmap = async (...given) => {
                const late = Math.floor(decoded++ / 4) % 2 === 0; // every other tick of four pictures
                const bitmap = await decode(...given);
                if (late) await new Promise((done) => setTimeout(done, 300));
                return bitmap;
            };
            window.drawn = [];
            new MutationObserver(() => window.drawn.push(Number(document.body.dataset.frame)))
                .observe(document, { subtree: true, attributeFilter: ["data-frame"] });"""
        )
        page.reload()
        wait_for_frame(page, wait_for_frame(page) + 60)
        drawn = page.evaluate("() => window.drawn")
        assert len(drawn) > 4 and drawn == sorted(drawn)


def test_a_still_is_saved_with_its_metadata(browser: Browser, shown: Shown) -> None:
    with Feeder(shown), looking(browser, shown) as page:
        wait_for_frame(page)
        with page.expect_download() as download:
            page.locator("figure[data-panel=labels] .save").click()
        saved = download.value
        png = Path(saved.path()).read_bytes()
        text = metadata_of(png)
        assert saved.suggested_filename == f"camera_{text['frame']:06d}_labels.png"
        assert (text["panel"], text["taxonomy"], text["model"]) == ("labels", "cityscapes-train", "0123456789ab")
        decoded = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(decoded, street()[1])


def test_another_bundle_and_why_it_cannot_be_loaded(browser: Browser, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    with (
        showing(make_translator(), bundle=gone, status_interval=0.2) as shown,
        Feeder(shown),
        looking(browser, shown) as page,
    ):
        wait_for_frame(page)
        page.get_by_label("Bundle").select_option("null")
        expect(fact(page, "Model")).to_have_text("0" * 12)
        expect(page.get_by_text("This network has no style.")).to_be_visible()
        expect(page.locator("#weights-from")).to_have_count(0)
        page.get_by_label("Bundle").select_option(gone)
        expect(page.locator("#bundle-note.bad")).to_contain_text("is neither a folder with a card.json")
        expect(page.get_by_label("Bundle")).to_have_value("null")
        wait_for_frame(page, wait_for_frame(page) + 2)


def test_several_cameras_are_chosen_from(browser: Browser) -> None:
    with (
        showing(make_translator(), topics=("left", "right"), status_interval=0.2) as shown,
        # One simulator socket, which one thread at a time may use: the cameras take turns.
        Feeder(shown, "one", "left", "right"),
        looking(browser, shown) as page,
    ):
        expect(fact(page, "Camera")).to_have_text("left")
        page.get_by_label("Camera").select_option("right")
        expect(fact(page, "Camera")).to_have_text("right")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_a_phone_and_every_control_has_a_name(browser: Browser, shown: Shown, scheme: str) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "color_scheme": scheme}
    with Feeder(shown), looking(browser, shown, **phone) as page:
        wait_for_frame(page)
        assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("input, select, button, canvas")]
                .filter(e => !(e.labels?.length || e.ariaLabel || e.textContent.trim()))
                .map(e => e.outerHTML)"""
        )
        assert nameless == []
        back = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        brightness = sum(int(part) for part in re.findall(r"\d+", back)[:3]) / 3
        assert (brightness > 200) == (scheme == "light")
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SHOTS / f"phone_{scheme}.png", full_page=True)
