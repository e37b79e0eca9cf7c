"""Files, folders, patterns, videos and cameras: what is found, and how its outputs are named."""

import cv2
import numpy as np
import pytest
from PIL import Image
from srnet.data.read import UnreadableImageError
from srnet.prediction.inputs import Names, list_inputs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """a.jpg, a.png, sub/a.jpg, hidden and other files; the current folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "a.png", "b.JPEG", ".hidden.jpg", "sub/a.jpg", "sub/deep/c.tif"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "in" / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def names(*inputs, **options):
    return [name for _, name in list_inputs(inputs, **options).entries]


def test_a_folder_is_its_images(folder):
    assert names("in") == ["a", "a_2", "b"]
    assert names("in", recursive=True) == ["a", "a_2", "b", "sub/a", "sub/deep/c"]


def test_the_folder_of_outputs_is_left_out(folder):
    assert names("in", recursive=True, exclude="in/sub") == ["a", "a_2", "b"]


def test_patterns_and_files(folder):
    assert names("in/*.jpg", "in/sub/a.jpg", "in/a.jpg") == ["a", "a_2", "a_3"]
    assert names("in/**/*.jpg") == ["a", "a_2"]


def test_a_file_with_a_pattern_in_its_name_is_itself(folder):
    (folder / "a[1].jpg").touch()
    assert names("a[1].jpg") == ["a[1]"]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("empty", ValueError, r"the folder empty has no images .*--recursive"),
        ("no.jpg", FileNotFoundError, r"the input no\.jpg does not exist"),
        ("*.gif", FileNotFoundError, r"no file matches \*\.gif"),
        ("...jpg", ValueError, r"leads out of"),
    ],
)
def test_what_is_not_there(folder, given, error, message, tried):
    tried(f"input {given}")
    (folder / "...jpg").touch()
    with pytest.raises(error, match=message):
        list_inputs([given])


def test_nothing_is_no_input():
    with pytest.raises(ValueError, match="no inputs"):
        list_inputs([])


def test_names_are_never_given_twice():
    unique = Names().unique
    assert [unique("a"), unique("a_2"), unique("a"), unique("a")] == ["a", "a_2", "a_3", "a_4"]
    assert unique("v", is_folder=True) == "v"
    assert unique("v/000001") == "v_2/000001"  # the video's frame has that name
    assert unique("w/x") == "w/x" and unique("w", is_folder=True) == "w_2"


def write_video(path, frames, size=(64, 48), fps=12.0):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    for i in range(frames):
        writer.write(np.full((size[1], size[0], 3), (40 * i, 0, 200), np.uint8))
    writer.release()


def test_a_video_is_its_frames(tmp_path):
    write_video(tmp_path / "v.mp4", 4)
    listed = list_inputs([tmp_path / "v.mp4"])
    sources = list(listed)
    assert listed.count is None and [s.name for s in sources] == [
        f"v/00000{i}" for i in (1, 2, 3, 4)
    ]
    assert sources[0].clip.name == "v" and sources[0].clip.fps == pytest.approx(12)
    colors = [np.asarray(s.read()).mean((0, 1)) for s in sources]
    assert all(c[0] > 150 for c in colors)  # red: frames are RGB
    assert colors[3][2] > colors[0][2] + 80


@pytest.mark.parametrize("given", ["v.mp4", "63"])
def test_a_video_or_camera_that_does_not_decode(tmp_path, monkeypatch, given, tried):
    tried(f"undecodable {given}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v.mp4").write_bytes(b"no video")
    (source,) = list_inputs([given])
    with pytest.raises(UnreadableImageError, match=f"{given}: OpenCV decodes no frame"):
        source.read()


def test_a_video_that_is_cut_off_is_told(tmp_path, caplog):
    path = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    noise = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), np.uint8)
    for frame in noise:
        writer.write(frame)
    writer.release()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    read = len(list(list_inputs([path])))
    assert 0 < read < 20 and "of 20 frames: is it cut off?" in caplog.text


def test_images_are_turned_and_made_rgb(tmp_path):
    """Every kind of picture goes through the one reader of srnet.data."""
    image = Image.new("RGB", (8, 4), (255, 0, 0))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    image.convert("P").save(tmp_path / "palette.png")
    image.convert("RGBA").save(tmp_path / "rgba.png")
    Image.fromarray(np.full((4, 8), 0x80FF, np.uint16)).save(tmp_path / "deep.png")
    found = {s.name: np.asarray(s.read()) for s in list_inputs([tmp_path])}
    assert found["turned"].shape == (8, 4, 3)
    for name in ("cmyk", "palette", "rgba"):
        assert found[name].shape == (4, 8, 3) and np.abs(found[name] - [254, 0, 0]).max() < 4
    assert (found["deep"] == 0x80).all()
