"""Translates a recording: photoreal images out, labels copied unchanged, resumable at any moment."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, TypeVar

from sim_bridge.errors import ImageError, LabelError, SimBridgeError, TranslatorError, UsageError
from sim_bridge.frames import ByteArray, Frame, Kind
from sim_bridge.pixels.images import write_jpeg, write_png
from sim_bridge.pixels.inputs import fit_input
from sim_bridge.pixels.preprocess import Preprocessor, fit_rgb
from sim_bridge.pixels.taxonomy import Taxonomies
from sim_bridge.recordings.captures import Capture, label_reader, read_capture, recording_taxonomy, to_frames
from sim_bridge.recordings.inputs import read_inputs
from sim_bridge.recordings.jobs import Names, Task, kept_names
from sim_bridge.recordings.labels import LabelReader
from sim_bridge.recordings.origins import CONTENT, SOURCE, fingerprint, refuse_other_source
from sim_bridge.recordings.progress import show_progress
from sim_bridge.recordings.read import (
    DEFAULT_CAMERA,
    DESCRIPTION,
    MANIFEST,
    Folder,
    RecordedFrame,
    Recording,
    RecordingInfo,
    read_manifest,
)
from sim_bridge.recordings.write import RecordingWriter, check_extra
from sim_bridge.settings import Size
from sim_bridge.translators import Style, Translation, Translator
from sim_bridge.translators.history import History

LABEL_FOLDERS: Final = (Folder.SEMANTIC, Folder.INSTANCE, Folder.DEPTH, Folder.FLOW)
"""What stays true of the photoreal image and is copied beside it."""
_AHEAD: Final = (
    2  # frames read ahead, and frames waiting to be written: files and network overlap, memory stays bounded
)

_PLACES: Final = ("bundle", "source", "folder")  # may move: the model id and the frames' contents say what they are

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Job:
    """How to translate.

    Attributes:
        bundle: Name of the bundle, as the user gave it; written down.
        size: ``(width, height)`` the network works at, or None for each image's own; the output has the input's size.
        seed: Style seed.
        labels: Taxonomy of the label images; None takes the recording's.
        image_format: File type of the photoreal images.
        keep_names: Name files as the source's pictures are, not by frame numbers.
        labels_as: How to read label images, where two readings fit.
    """

    bundle: str
    size: Size | None = None
    seed: int = 0
    labels: str | None = None
    image_format: Literal["png", "jpg"] = "png"
    keep_names: bool = False
    labels_as: str | None = None


@dataclass(slots=True)
class Report:
    """What became of the frames.

    Attributes:
        total: Frames of the recording.
        already: Frames an earlier run had finished.
        translated: Frames translated now.
        left_out: One sentence per frame that could not be translated.
        suspicions: Sentences about what may be wrong with the labels.
    """

    total: int
    already: int = 0
    translated: int = 0
    left_out: list[str] = field(default_factory=list)
    suspicions: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Frames that are finished or left out, those of earlier runs included."""
        return self.already + self.translated + len(self.left_out)


class PairTranslator:
    """A translator with the live bridge's preprocessing, called frame by frame. One thread uses it at a time.

    Args:
        translator: The translator.
        size: ``(width, height)`` the network works at, or None for each image's own.
        style: Which photoreal version.
        taxonomies: Those that a frame may name.
    """

    def __init__(
        self, translator: Translator, size: Size | None, style: Style, taxonomies: Taxonomies | None = None
    ) -> None:
        self.translator = translator
        self._size = size
        self._style = style
        self._preprocessor = Preprocessor(translator.classes, size, taxonomies)
        self._history = History(translator)
        self._warm: set[Size] = set()

    def translate(self, rgb: Frame, semantic: Frame, more: Mapping[Kind, Frame] | None = None) -> Translation:
        """Translates one tick, at the network's size.

        Args:
            rgb: The RGB frame.
            semantic: The semantic frame.
            more: The tick's further frames; those that the translator wants must be there.

        Raises:
            ImageError: A payload cannot be decoded, or the two differ in size.
            LabelError: Too many ids are outside the taxonomy.
            TranslatorError: The network failed.
        """
        prepared = self._preprocessor.prepare(rgb, semantic)
        size = (prepared.width, prepared.height)
        if size not in self._warm:
            self.translator.warm_up([size])
            self._warm.add(size)
        try:
            inputs = {kind: fit_input((more or {})[kind], size) for kind in self.translator.wants}
        except KeyError as error:
            raise ImageError(f"it has no {error.args[0]} frame, which {self.translator.name} wants") from error
        shot = self._history.shot(rgb, prepared.rgb, prepared.labels, self._style, inputs)
        (translation,) = self.translator.translate([shot])
        self._history.translated(shot)
        return translation


def translate_all(
    tasks: Sequence[Task], translator: Translator, job: Job, say: Callable[[str], None], *, strict: bool = False
) -> bool:
    """Does a job's tasks one after the other, with progress and a summary of each.

    Raises as :func:`translate_recording`.

    Returns:
        Whether no frame was left out; if ``strict``, also whether nothing was suspicious.
    """
    whole = True
    for task in tasks:
        prefix = f"{task.name}: " if task.name else ""

        def tell(line: str, prefix: str = prefix) -> None:
            say(prefix + line)

        with show_progress(f"translating {task.name}".rstrip(), tell) as progress:
            this = replace(job, seed=task.seed)
            report = translate_recording(task.recording, task.destination, translator, this, progress=progress)
        for line in summary(report):
            tell(line)
        whole = whole and not report.left_out and not (strict and report.suspicions)
    return whole


def translate_recording(
    recording: Recording,
    destination: Path,
    translator: Translator,
    job: Job,
    *,
    progress: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Translates every frame of a recording that ``destination`` does not hold yet.

    A frame that cannot be read or translated is left out and reported; a later run tries it again.

    Args:
        recording: What to translate.
        destination: Folder of the new recording; missing, empty, or left by an earlier run of the same job.
        translator: The network.
        job: How to translate.
        progress: Called after every frame, with the report so far.

    Raises:
        UsageError: The destination holds something else, or the taxonomy is not known.
        SimBridgeError: A result cannot be written.
    """
    source = recording_taxonomy(recording, job.labels)
    labels = label_reader(recording, source, job.labels_as)
    names = kept_names(recording) if job.keep_names else {}
    info = _description(recording, translator, job, source.name)
    done = _finished(recording, destination, info)
    frames = [frame for camera in recording.cameras() for frame in recording.frames(camera)]
    todo = [frame for frame in frames if (frame.camera, frame.number) not in done]
    report = Report(total=len(frames), already=len(frames) - len(todo))
    progress(report)
    camera_folders = recording.cameras() != (DEFAULT_CAMERA,)
    with (
        RecordingWriter(destination, info, camera_folders=camera_folders, taxonomy=source) as writer,
        ThreadPoolExecutor(1, "translate-read") as readers,
        ThreadPoolExecutor(1, "translate-write") as writers,
    ):
        pairs = PairTranslator(translator, job.size, Style(seed=job.seed), Taxonomies([source]))
        made = {"model": translator.model_id, "seed": job.seed}
        output = _Output(recording.root, writer, made, job.image_format, names)
        writing: deque[Future[str | None]] = deque()
        for frame, reading in _ahead(readers, lambda frame: _read(frame, labels), todo):
            rgb = _translated(pairs, frame, recording.info.session or "", reading, report)
            if rgb is not None:
                writing.append(writers.submit(output.write, frame, rgb))
            while len(writing) > _AHEAD:
                _note_written(writing.popleft(), report)
            progress(report)
        while writing:
            _note_written(writing.popleft(), report)
            progress(report)
    labels.finish()
    report.suspicions = labels.suspicions
    return report


def _read(frame: RecordedFrame, labels: LabelReader) -> Capture:
    """The frame's images, when all else that its manifest line says can be taken over."""
    check_extra(frame)
    return read_capture(frame, labels)


def _translated(
    pairs: PairTranslator, frame: RecordedFrame, session: str, reading: Future[Capture], report: Report
) -> ByteArray | None:
    """The photoreal image at the input's size, or None when the frame is left out."""
    try:
        capture = reading.result()
        rgb, semantic = to_frames(frame, capture, session=session, seconds=frame.time or 0.0)
        more = read_inputs(frame, rgb, pairs.translator.wants)
        return fit_rgb(pairs.translate(rgb, semantic, more).rgb, capture.size)
    except (ImageError, LabelError, TranslatorError, UsageError) as error:
        report.left_out.append(_left_out(frame, error))
        return None


def _note_written(writing: Future[str | None], report: Report) -> None:
    problem = writing.result()  # what cannot be written (a full disk) ends the run: the next one would fail as well
    if problem is None:
        report.translated += 1
    else:
        report.left_out.append(problem)


def _left_out(frame: RecordedFrame, error: SimBridgeError) -> str:
    return f"frame {frame.number} of camera {frame.camera!r}: {error}"


@dataclass(frozen=True, slots=True)
class _Output:
    """Writes the files of one translated frame, its manifest line last."""

    source: Path
    writer: RecordingWriter
    provenance: dict[str, object]
    image_format: Literal["png", "jpg"]
    names: Names

    def write(self, frame: RecordedFrame, rgb: ByteArray) -> str | None:
        """Writes all of a frame, or nothing and says which of the source's files is broken."""
        files: dict[Folder, Path] = {}
        picture, name = frame.picture, self.names.get((frame.camera, frame.number))
        assert picture is not None  # it was translated
        try:
            for folder in LABEL_FOLDERS:
                if folder in frame.files:
                    files[folder] = self.writer.copy(frame.camera, folder, frame.number, frame.files[folder], name)
            content = fingerprint(picture, frame.files[Folder.SEMANTIC])
        except ImageError as error:
            for copied in files.values():
                copied.unlink(missing_ok=True)
            return _left_out(frame, error)
        image = self.writer.path(frame.camera, Folder.PHOTOREAL, frame.number, f".{self.image_format}", name)
        (write_jpeg if self.image_format == "jpg" else write_png)(image, rgb[..., ::-1])
        files[Folder.PHOTOREAL] = image
        extra = {**frame.extra, **self.provenance, SOURCE: self._name(picture), CONTENT: content}
        self.writer.add(RecordedFrame(frame.camera, frame.number, frame.time, frame.pose, files, extra))
        return None

    def _name(self, path: Path) -> str:
        """Of the CG image within its recording: with frames numbered by order it is what leads back to it."""
        return path.relative_to(self.source).as_posix() if path.is_relative_to(self.source) else path.name


def _ahead(
    executor: ThreadPoolExecutor, work: Callable[[ItemT], ResultT], items: Iterable[ItemT]
) -> Iterator[tuple[ItemT, Future[ResultT]]]:
    """Does the work on the next few items while the caller is busy with the present one."""
    started: deque[tuple[ItemT, Future[ResultT]]] = deque()
    for item in items:
        started.append((item, executor.submit(work, item)))
        if len(started) > _AHEAD:
            yield started.popleft()
    yield from started


def _description(recording: Recording, translator: Translator, job: Job, taxonomy: str) -> RecordingInfo:
    return recording.info.model_copy(
        update={
            "taxonomy": taxonomy,
            "labels_as": job.labels_as or recording.info.labels_as,
            "translation": {
                "source": recording.root.resolve().name,
                "folder": str(recording.root.resolve()),
                "bundle": job.bundle,
                "model": translator.model_id,
                "seed": job.seed,
                "size": "input" if job.size is None else f"{job.size[0]}x{job.size[1]}",
                "format": job.image_format,
                "names": "kept" if job.keep_names else "numbers",
            },
        }
    )


def _finished(recording: Recording, destination: Path, info: RecordingInfo) -> Collection[tuple[str, int]]:
    """Cameras and numbers of the frames that an earlier run of the same job finished.

    Raises UsageError when the destination holds anything else, or frames of another source.
    """
    if destination.resolve().is_relative_to(recording.root.resolve()):
        raise UsageError(
            f"the destination {destination} lies in the source {recording.root}: choose a folder outside it"
        )
    if not destination.exists() or (destination.is_dir() and not any(destination.iterdir())):
        return set()
    if not destination.is_dir() or not (destination / DESCRIPTION).exists():
        raise UsageError(f"the destination {destination} exists and is no translated recording: choose another folder")
    earlier, now = _job_of(Recording.describe(destination)), _job_of(info)
    for name, value in now.items():
        if name not in _PLACES and earlier.get(name) != value:
            raise UsageError(
                f"the destination {destination} was made with {name} {earlier.get(name)!r}, this run has {value!r}: "
                "choose another folder, or remove that one"
            )
    if not (destination / MANIFEST).exists():
        return set()
    made = {(f.camera, f.number): f for f in read_manifest(destination) if _complete(f.files.values())}
    refuse_other_source(recording, destination, made)
    return made.keys()


def _job_of(info: RecordingInfo) -> dict[str, object]:
    return {**(info.translation or {}), "taxonomy": info.taxonomy, "labels_as": info.labels_as}


def _complete(files: Iterable[Path]) -> bool:
    return all(path.is_file() for path in files)


def summary(report: Report) -> Sequence[str]:
    """What to tell the user at the end, one line each."""
    lines = [f"left out: {problem}" for problem in report.left_out]
    text = f"{report.translated} of {report.total} frames translated"
    if report.already:
        text += f", {report.already} were there already"
    if report.left_out:
        text += f", {len(report.left_out)} left out"
    return [*lines, text]
