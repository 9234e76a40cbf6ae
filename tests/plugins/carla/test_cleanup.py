"""What is left in the world when the server hangs for longer than the time-out, and then goes on: nothing of ours."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from plugins.carla.run.source import CarlaSource
from plugins.carla.world.cleanup import LAST_SECONDS
from plugins.carla.world.server import ServerLostError, VehicleLostError
from tests.carla_server.handle import CarlaServer
from tests.plugins.carla.carla_helpers import RIG, connect, fresh, opened, server, spawn_hero, wait_until
from tests.sim_bridge.recording_helpers import running_cli, site

__all__ = ["fresh", "server", "site"]

pytestmark = pytest.mark.carla
TIME_OUT = 1.0
HELD = 3600.0


def left(server: CarlaServer) -> tuple[list[str], bool]:
    """All actors but the spectator, and whether the world is synchronous."""
    actors = [actor.type_id for actor in server.actors() if actor.type_id != "spectator"]
    return actors, server.order("state")["synchronous"]


CLEAN: tuple[list[str], bool] = ([], False)


def let_go(server: CarlaServer) -> None:
    server.order("hold_rpc", method="*", seconds=0)


@contextmanager
def hanging(server: CarlaServer, seconds: float) -> Iterator[None]:
    """The whole server hangs for so long, and at most as long as the block."""
    server.order("hold_rpc", method="*", seconds=HELD)
    timer = threading.Timer(seconds, let_go, (server,))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        let_go(server)


def test_a_server_that_goes_on_after_the_time_out_is_cleaned_up(
    fresh: CarlaServer, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(fresh, tick=True, timeout=TIME_OUT, reconnect=False) as source:
        ticks = source.ticks()
        next(ticks)
        assert left(fresh) != CLEAN
        with hanging(fresh, 2 * TIME_OUT), pytest.raises(ServerLostError, match="asked for a tick"):
            next(ticks)
    assert left(fresh) == CLEAN
    assert "stay in the world" not in caplog.text


def test_following_is_cleaned_up_too_when_only_the_end_meets_the_hang(fresh: CarlaServer) -> None:
    with opened(fresh, timeout=TIME_OUT) as source:
        frames = iter(source)
        next(frames)
        with hanging(fresh, 2 * TIME_OUT):
            source.close()
    assert left(fresh) == CLEAN


def test_what_stays_is_said_once_by_its_ids(fresh: CarlaServer, caplog: pytest.LogCaptureFixture) -> None:
    with opened(fresh, tick=True, timeout=TIME_OUT, reconnect=False) as source:
        ticks = source.ticks()
        next(ticks)
        ours = sorted(actor.id for actor in fresh.actors() if actor.type_id != "spectator")
        with hanging(fresh, HELD):
            began = time.monotonic()
            with pytest.raises(ServerLostError):
                next(ticks)
            source.close()
            took = time.monotonic() - began
    said = [record.getMessage() for record in caplog.records if "stay in the world" in record.getMessage()]
    assert len(said) == 1 and len(ours) == 3
    assert said[0].startswith(f"the actors {', '.join(map(str, ours))} and its synchronous mode stay in the world of")
    assert "did not answer within" in said[0] and "destroy such actors by id" in said[0]
    assert took < 2 * TIME_OUT + LAST_SECONDS + 2


def test_a_server_that_is_gone_has_taken_all_with_it(caplog: pytest.LogCaptureFixture) -> None:
    with CarlaServer(rate=50) as mortal, opened(mortal, tick=True, timeout=TIME_OUT, reconnect=False) as source:
        ticks = source.ticks()
        next(ticks)
        mortal.kill()
        with pytest.raises(ServerLostError):
            next(ticks)
        mortal.start()  # what the end of the block needs
    assert "stay in the world" not in caplog.text


def test_a_connection_that_was_made_again_undoes_what_the_one_before_left(fresh: CarlaServer) -> None:
    with opened(fresh, tick=True, timeout=TIME_OUT) as source:
        ticks = source.ticks()
        next(ticks)
        with hanging(fresh, 2 * TIME_OUT):
            assert next(ticks)
        assert source.sessions == 2
        assert sorted(left(fresh)[0]) == [
            "sensor.camera.rgb",
            "sensor.camera.semantic_segmentation",
            "vehicle.tesla.model3",
        ]
    assert left(fresh) == CLEAN


def test_an_end_while_it_connects_again_is_clean(fresh: CarlaServer, caplog: pytest.LogCaptureFixture) -> None:
    with opened(fresh, tick=True, timeout=TIME_OUT) as source:
        ticks = source.ticks()
        next(ticks)
        with hanging(fresh, 5 * TIME_OUT):
            threading.Timer(3 * TIME_OUT, source.stop).start()
            assert next(ticks, None) is None
        assert "connecting again" in caplog.text
    assert left(fresh) == CLEAN


def test_a_source_that_does_not_open_leaves_nothing(fresh: CarlaServer) -> None:
    """The world is synchronous and has our vehicle, and the server hangs at the first sensor."""
    method = "spawn_actor_with_parent"
    calls = fresh.order("state")["calls"]
    fresh.order("hold_rpc", method=method, seconds=2 * TIME_OUT)
    with pytest.raises(ServerLostError, match="the rgb sensor of camera 'camera'"):
        CarlaSource().open({"port": fresh.port, "spawn": True, "rig": RIG, "timeout": TIME_OUT, "tick": True})
    fresh.order("hold_rpc", method=method, seconds=0)
    wait_until(lambda: fresh.order("state")["calls"][method] > calls.get(method, 0), "the sensor's call")
    assert fresh.order("state")["calls"]["spawn_actor"] == calls.get("spawn_actor", 0) + 1
    assert left(fresh) == CLEAN


def test_a_vehicle_of_somebody_else_stays(fresh: CarlaServer) -> None:
    hero = spawn_hero(connect(fresh).get_world())
    with opened(fresh, spawn=False, tick=True, timeout=TIME_OUT, reconnect=False) as source:
        ticks = source.ticks()
        next(ticks)
        with hanging(fresh, 2 * TIME_OUT), pytest.raises(ServerLostError):
            next(ticks)
    assert left(fresh) == (["vehicle.tesla.model3"], False)
    hero.destroy()


def test_ctrl_c_while_the_server_hangs(fresh: CarlaServer, site: Path) -> None:
    flags = ("--port", str(fresh.port), "--bundle", "null", "--output", "tcp://127.0.0.1:*", "--spawn", "--tick")
    with running_cli("carla", *flags, "--size", "128x64", "--timeout", "2", site=site) as run:
        run.wait_for_line("session 1 is")
        with hanging(fresh, 3.5):
            run.process.send_signal(signal.SIGINT)
            code, said = run.finish()
    assert code == 0 and "is killed" not in said, said
    assert left(fresh) == CLEAN


def test_a_recording_that_loses_its_server_leaves_nothing(fresh: CarlaServer, site: Path, tmp_path: Path) -> None:
    flags = ("--port", str(fresh.port), "--spawn", "--tick", "--size", "128x64", "--timeout", "2", "--frames", "100000")
    with running_cli("carla", "record", str(tmp_path / "drive"), *flags, site=site) as run:
        run.wait_for_line("100 of 100000 ticks")
        with hanging(fresh, 4.0):
            code, said = run.finish()
    assert "did not answer within 2 s when it was asked for a tick" in said
    wait_until(lambda: left(fresh) == CLEAN, "the end of our actors")
    assert code != 0


def load_map_with_our_settings(server: CarlaServer) -> None:
    server.order("new_episode", town="Town07", reset_settings=False)


def test_settings_that_came_along_to_another_map_are_put_back(fresh: CarlaServer) -> None:
    with opened(fresh, tick=True, step=0.1) as source:
        ticks = source.ticks()
        session = next(ticks)[0].session
        load_map_with_our_settings(fresh)
        while next(ticks)[0].session == session:
            pass
        assert fresh.order("state")["synchronous"] and source.sessions == 2
    assert left(fresh) == CLEAN and fresh.order("state")["delta"] is None


def test_they_are_put_back_by_a_recording_that_ends_there(fresh: CarlaServer) -> None:
    world = connect(fresh).get_world()
    settings = world.get_settings()
    settings.fixed_delta_seconds = 0.025
    world.apply_settings(settings)
    with opened(fresh, tick=True, step=0.1, reconnect=False) as source:
        ticks = source.ticks()
        next(ticks)
        load_map_with_our_settings(fresh)
        with pytest.raises(VehicleLostError):
            list(ticks)
    assert left(fresh) == CLEAN and fresh.order("state")["delta"] == pytest.approx(0.025)


def test_settings_of_another_map_that_are_not_ours_stay(fresh: CarlaServer) -> None:
    with opened(fresh, tick=True, step=0.1, reconnect=False) as source:
        ticks = source.ticks()
        next(ticks)
        fresh.order("new_episode", town="Town07")
        world = connect(fresh).get_world()
        settings = world.get_settings()
        settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.05
        world.apply_settings(settings)
        with pytest.raises(VehicleLostError):
            list(ticks)
    assert left(fresh) == ([], True) and fresh.order("state")["delta"] == pytest.approx(0.05)


def test_what_somebody_else_set_meanwhile_stays(fresh: CarlaServer) -> None:
    world = connect(fresh).get_world()
    with opened(fresh, tick=True):
        settings = world.get_settings()
        settings.max_substeps = 7
        world.apply_settings(settings)
    settings = world.get_settings()
    assert (settings.synchronous_mode, settings.fixed_delta_seconds, settings.max_substeps) == (False, None, 7)
