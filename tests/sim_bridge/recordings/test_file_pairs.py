import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_bridge.errors import UsageError
from sim_bridge.recordings.file_pairs import Pairing, pair_files
from sim_bridge.recordings.listing import Found
from sim_bridge.recordings.read import Folder, Recording
from tests.sim_bridge.recording_helpers import TAXONOMY, data


def cases() -> Path:
    """Small folders as people have them, beside the real captures."""
    folder = Path(os.environ.get("SIM_BRIDGE_DATA", "/nonexistent")).parent / "cases"
    if not folder.is_dir():
        pytest.skip("needs the cases beside SIM_BRIDGE_DATA")
    return folder


def empty(root: Path, names: Sequence[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def foreign(root: Path, rgb: list[str], semantic: list[str], pairing: Pairing = "identity") -> Recording:
    empty(root, [*(f"rgb/{name}" for name in rgb), *(f"seg/{name}" for name in semantic)])
    return Recording.foreign(root, rgb="rgb/*", semantic="seg/*", labels=TAXONOMY, pairing=pairing)


def paired_names(recording: Recording) -> list[tuple[int, str, str]]:
    frames = recording.frames("camera")
    return [(f.number, f.files[Folder.RGB].name, f.files[Folder.SEMANTIC].name) for f in frames]


def paths_of(recording: Recording) -> list[tuple[str, str]]:
    return [
        tuple(f.files[folder].relative_to(recording.root).as_posix() for folder in (Folder.RGB, Folder.SEMANTIC))
        for f in recording.frames("camera")
    ]


def test_equal_names_pair(tmp_path: Path) -> None:
    recording = foreign(tmp_path, ["a9.png", "b10.png"], ["b10.png", "a9.png"])
    assert paired_names(recording) == [(9, "a9.png", "a9.png"), (10, "b10.png", "b10.png")]
    assert recording.notes == ("2 pairs of RGB and labels made by equal file names",)


def test_last_numbers_pair_and_what_has_no_partner_is_told(tmp_path: Path) -> None:
    recording = foreign(
        tmp_path, ["rgb_0002.png", "rgb_10.png", "rgb_3.png"], ["seg_2.png", "seg_000010.png", "seg_4.png"]
    )
    assert paired_names(recording) == [(2, "rgb_0002.png", "seg_2.png"), (10, "rgb_10.png", "seg_000010.png")]
    assert "the last number" in recording.notes[0]
    assert "1 RGB image has no partner and is left out" in recording.notes[1]
    assert "1 label image has no partner" in recording.notes[2]


def test_digits_inside_words_are_no_frame_numbers(tmp_path: Path) -> None:
    recording = foreign(tmp_path, ["a_7_leftImg8bit.png"], ["a_7_gtFine_labelIds.png"])
    assert paired_names(recording)[0][0] == 7


def test_repeating_last_numbers_pair_by_all_numbers(tmp_path: Path) -> None:
    names = ["a_000_19", "a_001_19"]
    recording = foreign(
        tmp_path, [f"{name}_img.png" for name in names], [f"{name}_ids.png" for name in reversed(names)]
    )
    assert [(rgb[:8], ids[:8]) for _, rgb, ids in paired_names(recording)] == [
        ("a_000_19", "a_000_19"),
        ("a_001_19", "a_001_19"),
    ]
    assert "all numbers" in recording.notes[0]
    assert "numbered from 0 in sorted order" in recording.notes[1]


def test_sorted_order_only_on_demand(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"2 RGB images and 2 label images cannot be paired.*give --pair sorted"):
        foreign(tmp_path, ["night.png", "day.png"], ["x.png", "y.png"])
    recording = foreign(tmp_path, ["night.png", "day.png"], ["x.png", "y.png"], pairing="sorted")
    assert paired_names(recording) == [(0, "day.png", "x.png"), (1, "night.png", "y.png")]
    assert "sorted order" in recording.notes[0]


def test_unequal_counts_without_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 RGB images and 1 label images cannot be paired"):
        foreign(tmp_path, ["a.png", "b.png"], ["x.png"])


def test_numbers_beyond_the_wire_are_no_frame_numbers(tmp_path: Path) -> None:
    recording = foreign(tmp_path, ["shot_99999999999999999999999.png"], ["seg_99999999999999999999999.png"])
    assert paired_names(recording)[0][0] == 0


@data
def test_routes_keep_to_themselves() -> None:
    root = cases() / "pairing_routes"
    recording = Recording.foreign(root, rgb="*/rgb/*.png", semantic="*/semantics/*.png", labels="cityscapes")
    there = {"route_00": (0, 1, 2), "route_01": (0, 1, 2, 3), "route_02": (0, 1, 3)}
    expected = [(f"{r}/rgb/{n:04d}.png", f"{r}/semantics/{n:04d}.png") for r, names in there.items() for n in names]
    assert paths_of(recording) == expected
    notes = "\n".join(recording.notes)
    assert f"1 RGB image has no partner and is left out: {root / 'route_00/rgb/0003.png'}" in notes
    assert f"1 label image has no partner and is left out: {root / 'route_02/semantics/0002.png'}" in notes


@data
@pytest.mark.parametrize(("split", "count"), [("train/", 2), ("", 6)])
def test_cities_keep_to_themselves(split: str, count: int) -> None:
    globs = (f"leftImg8bit/{split}**/*.png", f"gtFine/{split}**/*_labelIds.png")
    recording = Recording.foreign(cases() / "pairing_cities", rgb=globs[0], semantic=globs[1], labels="cityscapes")
    pairs = paths_of(recording)
    assert len(pairs) == count
    for rgb, ids in pairs:
        assert rgb.replace("leftImg8bit/", "").replace("_leftImg8bit", "") == ids.replace("gtFine/", "").replace(
            "_gtFine_labelIds", ""
        )


def test_a_missing_label_file_costs_its_own_pair_only(tmp_path: Path) -> None:
    names = [f"{city}/{city}_000000_{n:06d}" for city in ("aachen", "bonn") for n in (19, 20)]
    empty(tmp_path, [f"leftImg8bit/{name}_leftImg8bit.png" for name in names])
    empty(tmp_path, [f"gtFine/{name}_gtFine_labelIds.png" for name in names[1:]])
    recording = Recording.foreign(
        tmp_path, rgb="leftImg8bit/**/*.png", semantic="gtFine/**/*_labelIds.png", labels="cityscapes"
    )
    assert [rgb[12:-16] for rgb, _ in paths_of(recording)] == names[1:]


@pytest.mark.parametrize(
    ("rgb", "semantic", "files"),
    [
        ("*/rgb/*.png", "*/sem/*.png", ["a/rgb/1.png", "b/sem/1.png"]),
        ("rgb/**/*.png", "sem/**/*.png", ["rgb/a/1.png", "rgb/a/2.png", "sem/b/1.png", "sem/b/2.png"]),
        ("rgb/*/*.png", "sem/*/*.png", ["rgb/town01/1.png", "sem/town02/1.png"]),
        ("rgb/*.png", "sem/*.png", ["rgb/day_1.png", "rgb/night_2.png", "sem/day_2_ids.png", "sem/night_1_ids.png"]),
        ("rgb/*.png", "sem/*.png", ["rgb/0_19.png", "rgb/1_20.png", "sem/0_20.png", "sem/2_19.png"]),
        ("rgb/*.png", "sem/*.png", ["rgb/run_3_0001.png", "sem/run_4_0001.png"]),
        ("rgb/*.png", "sem/*.png", ["rgb/rgb_1.png", "sem/sem_2.png"]),
        ("rgb/*.png", "sem/*.png", ["rgb/1000.png", "rgb/1001.png", "sem/2000.png", "sem/2001.png"]),
        (
            "rgb/*.png",
            "sem/*.png",
            [f"{side}/{n + i}.png" for i, side in enumerate(("rgb", "sem")) for n in (0, 10, 20)],
        ),
    ],
)
def test_what_contradicts_is_never_joined(tmp_path: Path, rgb: str, semantic: str, files: list[str]) -> None:
    empty(tmp_path, files)
    with pytest.raises(UsageError, match="cannot be paired"):
        Recording.foreign(tmp_path, rgb=rgb, semantic=semantic, labels=TAXONOMY)


@pytest.mark.parametrize(
    ("rgb", "semantic", "files", "count"),
    [
        ("*/rgb/*.jpg", "*/sem/*.png", ["a/rgb/1.jpg", "a/sem/1.png", "b/rgb/1.jpg", "b/sem/1.png"], 2),
        ("*_rgb/*", "*_sem/*", ["a_rgb/1.png", "a_sem/1.png", "b_rgb/1.png", "b_sem/1.png"], 2),
        ("i/*/*", "l/*/*", ["i/rgb_left/1.png", "l/sem_left/1.png", "i/rgb_right/1.png", "l/sem_right/1.png"], 2),
        ("i/*/*", "l/*/*", ["i/CameraRGB0/1.png", "l/CameraSemSeg0/1.png"], 1),
        ("rgb/**/*", "sem/*", ["rgb/a/1.png", "rgb/b/2.png", "sem/1.png", "sem/2.png"], 2),
        ("*.jpg", "*.png", ["rgb_0_12.jpg", "rgb_0_13.jpg", "sem_1_12.png", "sem_1_13.png"], 2),
        ("rgb/*", "sem/*", ["rgb/0001_000183310.png", "rgb/0002_000183311.png", "sem/183310.png", "sem/183311.png"], 2),
        ("rgb/*", "sem/*", ["rgb/19_1690000000.123.png", "sem/19_1690000000.145.png"], 1),
        ("rgb/*", "sem/*", ["rgb/night_img.png", "rgb/day_img.png", "sem/night_ids.png", "sem/day_ids.png"], 2),
        ("rgb/*", "sem/*", ["rgb/rgb20191104-1.png", "rgb/rgb20191105-1.png", "sem/sem20191104-1.png"], 1),
    ],
)
def test_what_says_the_same_is_joined(tmp_path: Path, rgb: str, semantic: str, files: list[str], count: int) -> None:
    empty(tmp_path, files)
    recording = Recording.foreign(tmp_path, rgb=rgb, semantic=semantic, labels=TAXONOMY)
    assert len(recording) == count


def test_two_files_of_one_number_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"7\.jpg and .*7\.png have the same numbers"):
        foreign(tmp_path, ["7.jpg", "7.png"], ["7.png"])


def stamped(count: int, *, period: float = 0.05, offset: float = 0.0, lost: Sequence[int] = ()) -> list[str]:
    return [f"{1690000000 + i * period + offset:.6f}.png" for i in range(count) if i not in lost]


def test_stamps_of_one_period_and_offset_are_joined_one_to_one(tmp_path: Path) -> None:
    rgb, ids = stamped(9, lost=[2]), stamped(9, offset=0.012, lost=[5])
    recording = foreign(tmp_path, rgb, ids)
    expected = [(rgb_name, ids_name) for rgb_name, ids_name in zip(stamped(9), stamped(9, offset=0.012), strict=True)]
    assert [pair[1:] for pair in paired_names(recording)] == [expected[i] for i in (0, 1, 3, 4, 6, 7, 8)]
    assert "both have a period of 0.05, and the labels' stamps are 0.012 later" in recording.notes[0]
    assert [frame.number for frame in recording.frames("camera")] == list(range(7))
    times = [frame.time for frame in recording.frames("camera")]
    assert times[0] == 1690000000.0
    assert times[2] == 1690000000.15


@pytest.mark.parametrize(
    "ids",
    [
        stamped(9, period=0.06, offset=0.001),
        stamped(9, period=0.1, offset=0.01),
        stamped(9, offset=0.025),
        stamped(2, offset=0.01),
        stamped(9, period=0.052, offset=0.001),
        [f"{1690000000 + t:.6f}.png" for t in (0.01, 0.051, 0.12, 0.151, 0.201, 0.29, 0.31, 0.351, 0.44)],
    ],
)
def test_other_stamps_are_not(tmp_path: Path, ids: list[str]) -> None:
    with pytest.raises(UsageError, match="cannot be paired"):
        foreign(tmp_path, stamped(9), ids)


def test_small_numbers_are_stamps_on_demand(tmp_path: Path) -> None:
    rgb, ids = [f"{n}.png" for n in range(0, 500, 50)], [f"{n}.png" for n in range(3, 500, 50)]
    with pytest.raises(UsageError, match="cannot be paired"):
        foreign(tmp_path, rgb, ids)
    recording = foreign(tmp_path, rgb, ids, pairing="stamp")
    assert paired_names(recording)[9] == (450, "450.png", "453.png")
    with pytest.raises(UsageError, match="have not one period and a constant offset"):
        foreign(tmp_path / "other", rgb, [f"{n}.png" for n in range(25, 500, 50)], pairing="stamp")


@pytest.mark.parametrize("names", [["9", "10", "11", "0", "1", "2"], ["1.25", "1.5", "1.75", "0.5", "0.10", "10.0"]])
def test_order_in_time_survives(tmp_path: Path, names: list[str]) -> None:
    files = [f"x/{name}.png" for name in names]
    empty(tmp_path, [f"rgb/{name}" for name in files] + [f"seg/{name}" for name in files])
    empty(tmp_path, [f"{side}/y/{names[0]}.png" for side in ("rgb", "seg")])  # numbers repeat: given by position
    recording = Recording.foreign(tmp_path, rgb="rgb/**/*.png", semantic="seg/**/*.png", labels=TAXONOMY)
    expected = [f"rgb/x/{name}.png" for name in sorted(names, key=float)] + [f"rgb/y/{names[0]}.png"]
    assert [rgb for rgb, _ in paths_of(recording)] == expected
    assert [frame.number for frame in recording.frames("camera")] == list(range(7))


def test_sequences_whose_numbers_mix_are_numbered_by_order(tmp_path: Path) -> None:
    recording = foreign(tmp_path, ["a_1.png", "a_3.png", "b_2.png"], ["a_1.png", "a_3.png", "b_2.png"])
    assert [rgb for _, rgb, _ in paired_names(recording)] == ["a_1.png", "a_3.png", "b_2.png"]
    assert "mix the sequences" in recording.notes[1]


NAMES = st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["day", "night"]), st.integers(0, 12))


@given(
    rgb=st.sets(NAMES, min_size=1, max_size=12),
    semantic=st.sets(NAMES, min_size=1, max_size=12),
    decor=st.sampled_from([("", ""), ("rgb_", "seg_"), ("", "gt_")]),
    pad=st.tuples(st.integers(1, 6), st.integers(1, 6)),
)
def test_no_pair_joins_two_identities(
    rgb: set[tuple[str, str, int]], semantic: set[tuple[str, str, int]], decor: tuple[str, str], pad: tuple[int, int]
) -> None:
    """Folder, word and number of both files are equal, and every pair that there is is made."""
    sides = []
    for names, prefix, width, top in zip((rgb, semantic), decor, pad, ("rgb", "seg"), strict=True):
        found = {}
        for folder, word, number in sorted(names):
            name = f"{prefix}{word}_{number:0{width}d}"
            found[Found(Path(f"{top}/{folder}/{name}.png"), (folder,), (name,))] = (folder, word, number)
        sides.append(found)
    known = {found.path: identity for side in sides for found, identity in side.items()}
    try:
        pairs, _ = pair_files([*sides[0]], [*sides[1]])
    except UsageError:
        pairs = []
    for pair in pairs:
        assert known[pair.rgb][0] == known[pair.semantic][0]
        assert known[pair.rgb][2] == known[pair.semantic][2]
        if len({word for _, word, _ in rgb}) + len({word for _, word, _ in semantic}) > 2:
            assert known[pair.rgb] == known[pair.semantic]
    if (decor[0] == decor[1] and pad[0] == pad[1]) or len({word for _, word, _ in rgb & semantic}) == 2:
        assert len(pairs) == len(rgb & semantic)


@data
def test_hidden_files_are_never_seen() -> None:
    for folder, globs in (("src", ("rgb/*.png", "sem/*.png")), ("nb", ("rgb/**/*.png", "sem/**/*.png"))):
        for pair in (globs, tuple(glob.replace("/*", "/**/*", 1) for glob in globs if "**" not in glob) or globs):
            recording = Recording.foreign(
                cases() / "hidden_files" / folder, rgb=pair[0], semantic=pair[1], labels="cityscapes"
            )
            assert [number for number, _, _ in paired_names(recording)] == [5, 6, 7]
            assert "hidden file" in recording.notes[1]
