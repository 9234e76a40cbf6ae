"""A taxonomy's file: what is wrong in it is one sentence."""

from pathlib import Path

import pytest
import yaml

from sim_bridge.errors import UsageError
from sim_bridge.pixels.taxonomy import MAX_FILE_BYTES, Taxonomies, class_list, read_taxonomy, taxonomy

CLASSES = [
    {"id": 0, "name": "unlabeled", "color": [0, 0, 0]},
    {"id": 1, "name": "road", "color": [9, 9, 9]},
    {"id": 2, "name": "Shelf", "color": [8, 9, 9]},
]
WHOLE = {"name": "mine", "classes": CLASSES, "fallbacks": {"shelf": ["wall"]}}


def write(folder: Path, content: object) -> Path:
    file = folder / "mine.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return file


def with_class(number: object, name: str, color: object) -> dict[str, object]:
    return {**WHOLE, "classes": [*CLASSES, {"id": number, "name": name, "color": color}]}


def test_a_whole_file(tmp_path: Path) -> None:
    table = read_taxonomy(write(tmp_path, {**WHOLE, "aliases": {"shelf": ["Rack"], "sidewalk": ["walkway"]}}))
    assert dict(table.ids) == {0: "unlabeled", 1: "road", 2: "shelf"} and table.palette[2] == (8, 9, 9)
    assert table.canonical_name("rack") == "shelf" and table.canonical_name("walkway") == "sidewalk"
    assert table.canonical_name("Tree") == "vegetation"
    assert table.fallback_chain("shelf") == ("wall",) and table.fallback_chain("rider") == ("bicyclist", "person")
    assert table.trains == class_list("street")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("- a\n", "holds a list where keys are expected"),
        ("a: [1\n", "is not YAML"),
        ("!!python/object:os.system {}\n", "is not YAML"),
        ("x" * (MAX_FILE_BYTES + 1), f"more than {MAX_FILE_BYTES} bytes"),
        ({"name": "mine"}, "'classes': field required"),
        ({**WHOLE, "classes": []}, "at least 1 item"),
        ({**WHOLE, "colour": 1}, "'colour' is 1: extra inputs are not permitted"),
        ({**WHOLE, "name": "toytown"}, "the name 'toytown' is that of a shipped one"),
        ({**WHOLE, "name": "a/b"}, "'name' is 'a/b'"),
        ({**WHOLE, "name": "mine.yaml"}, "ends like a file"),
        (with_class(256, "wall", [1, 2, 3]), "'classes.3.id' is 256: it should be less than or equal to 255"),
        (with_class("7", "wall", [1, 2, 3]), "'classes.3.id' is '7': it should be a valid integer"),
        (with_class(7, "wall", [1, 2]), "'classes.3.color.2'"),
        (with_class(1, "wall", [1, 2, 3]), "the id 1 is there twice, for 'road' and 'wall'"),
        (with_class(7, "wall", [9, 9, 9]), r"the colour \[9, 9, 9\] is there twice.*shared_colors: true"),
        (
            with_class(7, "forklift", [1, 2, 3]),
            "'forklift' is a class that no shipped taxonomy has: say under",
        ),
        (with_class(7, "sidwalk", [1, 2, 3]), "did you mean 'sidewalk'"),
        ({**WHOLE, "fallbacks": {"shelf": ["wal"]}}, "the fallback 'wal' of 'shelf'.*did you mean 'wall'"),
        ({**WHOLE, "fallbacks": {"shelf": [], "wall": []}}, "fallbacks: 'wall' is none of its classes"),
        ({**WHOLE, "fallbacks": {"shelf": ["shelf"]}}, "of itself says nothing"),
        ({**WHOLE, "aliases": {"shelf": ["rack"], "road": ["rack"]}}, "the alias 'rack' of 'road' has another meaning"),
        ({**WHOLE, "trains": "streets"}, "trains: 'streets' is no list of classes: use street, cityscapes, camvid"),
        ({**WHOLE, "trains": ["road", "shelf"]}, "has no 'unlabeled'"),
        ({**WHOLE, "trains": ["road", "road", "unlabeled"]}, "the class to train with road is there twice"),
        ({**WHOLE, "trains": ["rod", "unlabeled"]}, "trains: 'rod'.*did you mean 'road'"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, content: object, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        read_taxonomy(write(tmp_path, content))
    assert "\n" not in str(caught.value) and "mine.yaml" in str(caught.value)


def test_a_missing_file_and_one_that_is_given_twice(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        Taxonomies.read([tmp_path / "none.yaml"])
    file = write(tmp_path, WHOLE)
    with pytest.raises(UsageError, match="two taxonomies have the name 'mine'"):
        Taxonomies.read([file, file])


def test_colours_may_be_shared_where_the_file_says_so(tmp_path: Path) -> None:
    shared = with_class(7, "wall", [9, 9, 9]) | {"shared_colors": True}
    assert read_taxonomy(write(tmp_path, shared)).palette[7] == (9, 9, 9)


def test_the_common_lists_are_what_bundles_were_trained_with() -> None:
    train = taxonomy("cityscapes-train").ids
    assert class_list("cityscapes") == tuple(train[number] for number in sorted(train))
    camvid = taxonomy("camvid").ids
    assert class_list("camvid") == tuple(camvid[number] for number in sorted(camvid))
    assert class_list("street") == (*class_list("cityscapes")[:-1], "road line", "unlabeled")
