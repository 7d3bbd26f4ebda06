import struct
import sys
import wave

import av
import numpy as np
import PIL.Image
import pytest
from tiny_video import grey, write_video, write_videos

import lac.data
from lac.data.choice import choose
from lac.data.side_by_side import Following, write_side_by_side
from lac.data.telling import told
from lac.data.video import count_frames, frame_times, outline, read_frames

# H.264 and the change of colours cost a few levels, hence steps between frames that are much larger.
LEVELS = np.arange(10, 250, 20)
NEAR = 4
# A camera that was fast, then slow, then stood still for a while.
TIMES = np.array([0, 0.04, 0.08, 0.12, 0.16, 0.2, 0.3, 0.4, 0.5, 0.6, 1.5, 1.6])


def level(frames):
    return frames.reshape(len(frames), -1).mean(axis=1)


def assert_levels(frames, expected):
    np.testing.assert_allclose(level(frames), expected, rtol=0, atol=NEAR)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", grey(LEVELS, 16, 32), TIMES)


# Reading


def test_all_frames_and_the_containers_times(film):
    frames, times = read_frames(film)
    assert (frames.shape, frames.dtype, times.dtype) == ((12, 16, 32, 3), np.uint8, np.float64)
    assert_levels(frames, LEVELS)
    np.testing.assert_allclose(times, TIMES, rtol=0, atol=1 / 90_000)


@pytest.mark.parametrize(
    ("fps", "kept"),
    [
        (5, [0, 5, 7, 9, 10, 11]),  # intervals of 0.2 s; nothing new is shown from 0.8 to 1.4 s
        (10, [0, 3, 5, 6, 7, 8, 9, 10, 11]),
        (1000, range(12)),
        (0.1, [0]),
    ],
)
def test_fewer_frames_by_their_times(film, fps, kept):
    frames, times = read_frames(film, fps=fps)
    np.testing.assert_allclose(times, TIMES[list(kept)], rtol=0, atol=1 / 90_000)
    assert_levels(frames, LEVELS[list(kept)])


def test_times_count_from_where_the_container_says(tmp_path):
    path = write_video(tmp_path / "late.mkv", grey(LEVELS), 3 + TIMES)
    np.testing.assert_allclose(read_frames(path)[1], 3 + TIMES, rtol=0, atol=1e-3)  # mkv counts milliseconds
    np.testing.assert_allclose(read_frames(path, fps=5)[1], 3 + TIMES[[0, 5, 7, 9, 10, 11]], rtol=0, atol=1e-3)


def test_frames_by_number(film):
    frames, times = read_frames(film, indices=[7, 0, 7])
    assert_levels(frames, LEVELS[[7, 0, 7]])
    np.testing.assert_allclose(times, TIMES[[7, 0, 7]], rtol=0, atol=1 / 90_000)
    with pytest.raises(ValueError, match=r"film.mp4 has 12 frames: index 12 is out of range"):
        read_frames(film, indices=[3, 40, 12])


def test_size(tmp_path):
    stripes = grey([0])
    stripes[0, :, ::2] = 200
    path = write_video(tmp_path / "stripes.mp4", stripes, [0])
    frames, _ = read_frames(path, size=4)
    assert frames.shape == (1, 4, 4, 3)
    np.testing.assert_allclose(frames, 100, rtol=0, atol=NEAR)  # the mean: no column is skipped
    assert read_frames(path, size=(6, 40))[0].shape == (1, 6, 40, 3)


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        ((1, 0, 0, 1), (0, 0)),
        ((0, 1, -1, 0), (0, -1)),  # a quarter, clockwise
        ((-1, 0, 0, -1), (-1, -1)),
        ((0, -1, 1, 0), (-1, 0)),
        ((-1, 0, 0, 1), (0, -1)),  # mirrors
        ((1, 0, 0, -1), (-1, 0)),
        ((0, 1, 1, 0), (0, 0)),
        ((0, -1, -1, 0), (-1, -1)),
    ],
)
def test_turned_and_mirrored_videos(tmp_path, matrix, corner):
    pictures = grey([20], 16, 32)
    pictures[:, :8, :8] = 220  # where the camera began
    path = write_video(tmp_path / "turned.mp4", pictures, [0])
    content = path.read_bytes()
    a, b, c, d = (k << 16 for k in matrix)
    upright, turned = (
        np.array([*rows, 0, 0, 1 << 30], dtype=">i4").tobytes()
        for rows in ([1 << 16, 0, 0, 0, 1 << 16, 0], [a, b, 0, c, d, 0])
    )
    at = content.index(upright, content.index(b"tkhd"))
    path.write_bytes(content[:at] + turned + content[at + 36 :])
    frames, _ = read_frames(path)
    assert frames.shape == ((1, 16, 32, 3) if matrix[0] else (1, 32, 16, 3))
    np.testing.assert_allclose(frames[(0, *corner)], 220, rtol=0, atol=NEAR)
    assert frames.mean() == pytest.approx(20 + 200 / 8, abs=NEAR)
    assert read_frames(path, size=(8, 4))[0].shape == (1, 8, 4, 3)
    np.testing.assert_allclose(read_frames(path, size=(8, 8))[0][(0, *corner)], 220, rtol=0, atol=NEAR)


def test_folder_of_images(tmp_path):
    for number, name in enumerate(["1.png", "2.PNG", "10.jpg"]):
        PIL.Image.fromarray(grey([40 * number + 20])[0]).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    frames, times = read_frames(tmp_path, rate=10)
    assert_levels(frames, [20, 60, 100])
    np.testing.assert_allclose(times, [0, 0.1, 0.2], rtol=0, atol=1e-12)
    assert read_frames(tmp_path)[1][1] == 1 / 25
    frames, times = read_frames(tmp_path, rate=10, fps=5, size=(2, 3))
    assert frames.shape == (2, 2, 3, 3)
    assert_levels(frames, [20, 100])

    PIL.Image.fromarray(grey([20], 8, 8)[0]).save(tmp_path / "3.png")
    with pytest.raises(ValueError, match=r"frame 2 has 8 x 8 pixels.*give size="):
        read_frames(tmp_path)
    (tmp_path / "10.jpg").write_bytes((tmp_path / "10.jpg").read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"10\.jpg is not an image that Pillow can read, or it is cut short"):
        read_frames(tmp_path, size=8)


# What the pixels mean


def image(root, picture, name="0.png", **options):
    """The one pixel value of a folder that holds the picture."""
    picture.save(root / name, **options)
    frames, _ = read_frames(root)
    assert (frames == frames[0, 0, 0]).all()
    return frames[0, 0, 0].tolist()


def plain(mode, value):
    return PIL.Image.new(mode, (6, 4), value)


def sixteen(value, kind="uint16"):
    return PIL.Image.fromarray(np.full((4, 6), value, kind))


def palette(mode="P"):
    picture = plain("P", 3)
    picture.putpalette([1, 2, 3] * 3 + [200, 60, 30] + [9] * 756)
    return picture.convert(mode)


reads_ycbcr = pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="older Pillow refuses what it wrote")


@pytest.mark.parametrize(
    ("picture", "name", "expected"),
    [
        (plain("1", 1), "0.png", [255] * 3),
        (plain("L", 100), "0.png", [100] * 3),
        (plain("RGB", (200, 60, 30)), "0.png", [200, 60, 30]),
        (palette(), "0.png", [200, 60, 30]),
        (sixteen(4000), "0.png", [4000 >> 8] * 3),
        (sixteen(65535), "0.png", [255] * 3),
        (sixteen(40000), "0.tif", [40000 >> 8] * 3),
        (sixteen(40000, ">u2"), "0.tif", [40000 >> 8] * 3),
        (plain("RGBA", (200, 60, 30, 255)), "0.png", [200, 60, 30]),
        (plain("RGBA", (200, 60, 30, 0)), "0.png", [0, 0, 0]),
        (plain("RGBA", (200, 60, 30, 51)), "0.tiff", [40, 12, 6]),
        (plain("LA", (100, 51)), "0.png", [20] * 3),
        (palette("PA"), "0.tif", [200, 60, 30]),
        (plain("CMYK", (10, 20, 30, 40)), "0.tif", [245 * 215 // 255 + 1, 198, 190]),
        (plain("CMYK", (0, 255, 255, 0)), "0.tif", [255, 0, 0]),
        pytest.param(plain("YCbCr", (76, 85, 255)), "0.tif", [254, 0, 0], marks=reads_ycbcr),  # red
    ],
)
def test_images_of_every_kind(tmp_path, picture, name, expected):
    np.testing.assert_allclose(image(tmp_path, picture, name), expected, rtol=0, atol=1)


def test_a_transparent_colour_is_black(tmp_path):
    assert image(tmp_path, palette(), transparency=3) == [0, 0, 0]
    assert image(tmp_path, palette(), transparency=2) == [200, 60, 30]
    assert image(tmp_path, plain("L", 100), transparency=100) == [0, 0, 0]
    assert image(tmp_path, plain("RGB", (1, 2, 3)), transparency=(1, 2, 3)) == [0, 0, 0]


def test_jpegs_of_other_colours(tmp_path):
    near = {"rtol": 0, "atol": 2}
    for mode, value, expected in (("CMYK", (10, 20, 30, 40), [207, 198, 190]), ("L", 100, [100] * 3)):
        np.testing.assert_allclose(image(tmp_path, plain(mode, value), "0.jpg", quality=100), expected, **near)


def twelve_bits(path, white_is_zero=False, bits=12):
    """A TIFF of one strip, which Pillow reads but does not write."""
    tags = [(256, 6), (257, 4), (258, bits), (259, 1), (262, 0 if white_is_zero else 1), (273, 200), (277, 1)]
    tags += [(278, 4), (279, 4 * 6 * bits // 8)]
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    path.write_bytes(head.ljust(200, b"\0") + b"\x70" * (4 * 6 * bits // 8))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (sixteen(4000, "int32").save, "mode I and 32 bits does not say what is white"),
        (sixteen(0.5, "float32").save, "mode F and 32 bits does not say what is white"),
        (twelve_bits, "mode I;16 and 12 bits does not say what is white"),
        (lambda path: twelve_bits(path, white_is_zero=True, bits=16), "mode I;16 and 16 bits does not say"),
        (lambda path: plain("L", 1).save(path, save_all=True, append_images=[plain("L", 2)]), "it holds 2 images"),
    ],
)
def test_images_that_do_not_say_what_they_show(tmp_path, write, message):
    write(tmp_path / "7.tif")
    with pytest.raises(ValueError, match=rf"7\.tif: .*{message}"):
        read_frames(tmp_path)


@pytest.mark.parametrize("name", ["0.jpg", "0.png", "0.tif"])
@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (-1, -1)), (6, (0, -1)), (8, (-1, 0))])
def test_photographs_are_turned_upright(tmp_path, name, orientation, corner):
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :16] = 240  # the corner that the camera saw first
    exif = PIL.Image.Exif()
    exif[274] = orientation
    PIL.Image.fromarray(pixels).save(tmp_path / name, exif=exif)
    frames, _ = read_frames(tmp_path)
    assert frames.shape == ((1, 48, 32, 3) if orientation in (6, 8) else (1, 32, 48, 3))
    np.testing.assert_allclose(frames[(0, *corner)], 240, rtol=0, atol=4)
    assert frames.mean() == pytest.approx(240 / 6, abs=2)


def encoded(path, pictures, codec, pixels, source="rgb24", limits=None, **options):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixels
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format=source)
            if limits is not None:
                stream.codec_context.color_range = limits
                frame = frame.reformat(format=pixels, dst_color_range=limits)
                frame.color_range = limits
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "limits"),
    [
        ("a.mkv", "ffv1", "yuv420p", 1),
        ("a.mkv", "ffv1", "yuv420p", 2),
        ("a.mkv", "ffv1", "yuv420p10le", None),
        ("a.mkv", "ffv1", "yuv444p16le", None),
        ("a.mp4", "libx264", "yuv420p10le", None),
        ("a.mp4", "libx264", "yuvj420p", None),
        ("a.mov", "png", "rgb48be", None),
        ("a.avi", "ffv1", "bgr0", None),
    ],
)
def test_videos_of_every_depth_and_range(tmp_path, name, codec, pixels, limits):
    pictures = np.broadcast_to(np.array([200, 60, 30], np.uint8), (1, 32, 32, 3)).copy()
    options = {"crf": "3"} if codec == "libx264" else {}
    frames, _ = read_frames(encoded(tmp_path / name, pictures, codec, pixels, limits=limits, **options))
    np.testing.assert_allclose(frames, pictures, rtol=0, atol=3)


@pytest.mark.parametrize(("limits", "shown"), [(None, [16, 126, 235]), (2, [16, 126, 235]), (1, [0, 128, 255])])
def test_grey_videos(tmp_path, limits, shown):
    for number, level_ in enumerate((16, 126, 235)):
        path = tmp_path / f"{number}.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.height = stream.width = 32
            stream.pix_fmt = "gray"
            frame = av.VideoFrame.from_ndarray(np.full((32, 32), level_, np.uint8), format="gray")
            frame.pts = 0
            if limits is not None:
                stream.codec_context.color_range = frame.color_range = limits
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        np.testing.assert_array_equal(read_frames(path)[0], shown[number])


@pytest.mark.parametrize(("codec", "pixels"), [("png", "rgba"), ("qtrle", "argb"), ("prores_ks", "yuva444p10le")])
def test_transparent_videos_lie_over_black(tmp_path, codec, pixels):
    pictures = np.zeros((1, 32, 32, 4), np.uint8)
    pictures[:, :, :16] = [200, 60, 30, 51]
    pictures[:, :, 16:] = [250, 250, 250, 0]
    path = encoded(tmp_path / "a.mov", pictures, codec, pixels, source="rgba")
    frames, _ = read_frames(path)
    np.testing.assert_allclose(frames[0, :, :14], np.broadcast_to([40, 12, 6], (32, 14, 3)), rtol=0, atol=3)
    np.testing.assert_allclose(frames[0, :, 18:], 0, rtol=0, atol=3)
    assert read_frames(path, size=8)[0].max() <= 44


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_frames_that_lie_out_of_order_in_an_avi(tmp_path, codec):
    # With frames that refer to later ones. An avi has no times of its own: they come from the order.
    noise = np.random.default_rng(0).integers(0, 60, (64, 64, 3), dtype=np.uint8)
    pictures = np.stack([np.roll(noise, k, axis=1) // 2 + 7 * k for k in range(30)])
    options = {"bf": "3", "b_strategy": "0", "crf": "5"} if codec == "libx264" else {"bf": "2", "b": "4000k"}
    path = encoded(tmp_path / "a.avi", pictures, codec, "yuv420p", **options)
    frames, times = read_frames(path)
    np.testing.assert_allclose(level(frames), level(pictures), rtol=0, atol=NEAR)
    np.testing.assert_allclose(np.diff(times), 0.04, rtol=0, atol=1e-6)
    assert times[0] <= 0.04 + 1e-6


@pytest.mark.parametrize("name", ["film.mp4", "film.mov", "film.mkv", "film.avi"])
def test_counting_without_pictures(tmp_path, name):
    path = write_video(tmp_path / name, grey(LEVELS), TIMES if name != "film.avi" else np.arange(12) / 25)
    frames, times = read_frames(path)
    assert count_frames(path) == len(frames)
    np.testing.assert_array_equal(frame_times(path), times)


def test_counting_a_cut_file(tmp_path):
    path = write_video(tmp_path / "cut.mp4", grey(LEVELS), np.arange(12) / 25, movflags="faststart")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"cut.mp4 is damaged or cut short: \d+ of 12 frames"):
        count_frames(path)


def test_bad_arguments(film):
    for arguments, message in [
        ({"indices": [0], "fps": 5}, "exclude each other"),
        ({"indices": []}, "at least one"),
        ({"indices": [3, -1]}, "frame numbers from 0"),
        ({"fps": 0}, "fps must be > 0"),
        ({"rate": float("nan")}, "rate must be > 0"),
        ({"size": 0}, "size must be"),
        ({"size": (3, 4, 5)}, "size must be"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_frames(film, **arguments)


# Bad files


def test_files_that_are_no_videos(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.mp4"):
        read_frames(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("nothing to see here\n" * 50)
    with pytest.raises(ValueError, match=r"text\.mp4 is not a video"):
        read_frames(tmp_path / "text.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no frames"):
        read_frames(tmp_path / "empty")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(1600))
    with pytest.raises(ValueError, match=r"sound\.wav holds no video stream"):
        read_frames(tmp_path / "sound.wav")


def test_videos_that_are_cut_short(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (20, 16, 16, 3), dtype=np.uint8)
    # The index of an mp4 comes last, or first, where it promises frames that are no longer there.
    path = write_video(tmp_path / "last.mp4", noise, np.arange(20) / 25)
    first = write_video(tmp_path / "first.mp4", noise, np.arange(20) / 25, movflags="faststart")
    with av.open(str(first)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = first.read_bytes()
    whole = path.read_bytes()
    for end in [0, 100, whole.index(b"moov"), whole.index(b"stsz")]:
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"last\.mp4 .*or was cut short before"):
            read_frames(path, indices=[0])
    for end in [packets[12][0] + packets[12][1] // 2, sum(packets[12]), packets[3][0] + 5]:
        first.write_bytes(content[:end])
        with pytest.raises(ValueError, match=r"first\.mp4 is damaged or cut short: \d+ of 20 frames could be decoded"):
            read_frames(first)


def test_an_image_that_would_fill_the_memory(tmp_path, monkeypatch):
    PIL.Image.fromarray(grey([9], 40, 40)[0]).save(tmp_path / "0.png")
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"0\.png is not an image that Pillow can read.*exceeds limit"):
        read_frames(tmp_path)


def test_a_container_that_counts_empty_moments_is_whole(tmp_path):
    path = write_video(tmp_path / "film.avi", grey(LEVELS), np.arange(12) / 25)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames > 12
    assert_levels(read_frames(path)[0], LEVELS)


@pytest.mark.parametrize(("module", "name"), [("av", "PyAV"), ("PIL.Image", "Pillow")])
def test_missing_package(film, tmp_path, monkeypatch, module, name):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'{name}: pip install ".\[video\]"'):
        read_frames(film if module == "av" else tmp_path)


# Side by side


def cells(frames, columns, rows):
    """The videos in a grid of equal cells, their lines of text cut off: for each (T, H, W, 3), row by row."""
    tall, wide = frames.shape[1] // rows, frames.shape[2] // columns
    parts = [
        frames[:, tall * r : tall * (r + 1), wide * c : wide * (c + 1)] for r in range(rows) for c in range(columns)
    ]
    return [part[:, 26:] for part in parts]  # more than the line


def texts(frames, columns, rows):
    """The lines of text above them."""
    tall, wide = frames.shape[1] // rows, frames.shape[2] // columns
    return [frames[:, tall * r : tall * r + 16, wide * c : wide * (c + 1)] for r in range(rows) for c in range(columns)]


def test_the_second_video_follows_the_first(tmp_path):
    first = write_video(tmp_path / "a.mp4", grey([40] * 20, 20, 20), np.arange(20) / 20)
    second = write_video(tmp_path / "b.mp4", grey(np.arange(40) * 6, 40, 40), np.arange(40) / 20)
    # Matched from 0.25 to 0.75 s of the first: twice as fast in the second, from 0.5 to 1.5 s.
    times = np.array([0.25, 0.5, 0.75]), np.array([0.5, 1.0, 1.5])
    written = write_side_by_side(tmp_path / "both.mp4", first, "a", [Following(second, "b", *times)])
    frames, times = read_frames(tmp_path / "both.mp4")
    assert written == 20
    assert frames.shape == (20, 144 + 18, 2 * 144, 3)  # blown up, below a line of text
    np.testing.assert_allclose(times, np.arange(20) / 20, rtol=0, atol=1 / 90_000)
    left, right = (level(part) for part in cells(frames, 2, 1))
    np.testing.assert_allclose(left, 40, rtol=0, atol=NEAR)
    shown = np.clip(2 * np.arange(20), 10, 30) * 6
    inside = slice(5, 16)
    np.testing.assert_allclose(right[inside], shown[inside], rtol=0, atol=NEAR)
    np.testing.assert_allclose(right[:5], 60 * 0.6, rtol=0, atol=NEAR)
    np.testing.assert_allclose(right[16:], 180 * 0.6, rtol=0, atol=NEAR)


def test_names_seconds_and_no_match_are_written(tmp_path):
    film = write_video(tmp_path / "a.mp4", grey([128] * 10, 64, 200), np.arange(10) / 10)
    times = np.array([0.2, 0.7]), np.array([0.2, 0.7])
    for name in ("one", "other"):
        write_side_by_side(tmp_path / f"{name}.mp4", film, "first", [Following(film, name, *times)])
    one, other = (texts(read_frames(tmp_path / f"{name}.mp4")[0].astype(int), 2, 1) for name in ("one", "other"))
    apart = np.abs(one[0].astype(int) - other[0])
    assert (apart > 40).mean() < 1e-3  # the same words, in another file; encoders leave single pixels
    assert (abs(one[1] - other[1]).max(axis=(1, 2, 3)) > 100).all()
    assert one[0][0].max() > 150
    clock = one[0][:, :, -60:]
    assert (abs(clock[1:] - clock[:-1]).max(axis=(1, 2, 3)) > 60).all()  # it runs
    amber = (one[1][..., 0] - one[1][..., 2]).max(axis=(1, 2))  # red less blue
    assert amber[[0, 1, 8, 9]].min() > 100
    assert amber[2:8].max() < 60  # halved colour of the frames around it


def test_several_videos_follow_the_first_in_a_grid(tmp_path):
    rate = 20
    first = write_video(tmp_path / "a.mp4", grey(np.arange(30) * 4, 160, 160), np.arange(30) / rate)
    film = write_video(tmp_path / "b.mp4", grey(np.arange(60) * 4, 40, 80), np.arange(60) / rate)
    at = np.array([0.0, 1.45])
    others = [
        Following(film, "as fast", at, at + 0.5),
        Following(film, "twice as fast", at, 2 * at),
        Following(film, "never", np.zeros(0), np.zeros(0)),
        Following(film, "once", np.array([0.5]), np.array([1.0])),
    ]
    write_side_by_side(tmp_path / "grid.mp4", first, "a", others)
    frames, _ = read_frames(tmp_path / "grid.mp4")
    tall, wide = 160 + 18, 320
    assert frames.shape == (30, 2 * tall, 3 * wide, 3)
    parts = cells(frames, 3, 2)
    middle = [level(part[:, 20:-20, 100:-100]) for part in parts]
    number = np.arange(30)
    for shown, expected in zip(
        middle,
        [4 * number, 4 * (number + 10), 8 * number, 0 * number, np.where(number == 10, 80, 0.6 * 80), 0 * number],
        strict=True,
    ):
        np.testing.assert_allclose(shown, expected, rtol=0, atol=NEAR)
    # A square stands in the middle of its cell, in its own proportions.
    assert level(parts[0][-1:, :, :70]) < NEAR
    np.testing.assert_allclose(level(parts[0][-1:, 4:-4, 84:-84]), 116, atol=NEAR)


def test_a_large_grid_is_a_picture_that_a_screen_holds(tmp_path):
    film = write_video(tmp_path / "a.mp4", grey([100] * 2, 720, 1280), np.arange(2) / 2)
    for count in (3, 12, 30):
        others = [Following(film, f"clip {k}", np.zeros(1), np.zeros(1)) for k in range(count - 1)]
        write_side_by_side(tmp_path / "grid.mp4", film, "first", others)
        tall, wide = read_frames(tmp_path / "grid.mp4")[0].shape[1:3]
        assert 700 < tall <= 1080
        assert 1000 < wide <= 1920


def test_side_by_side_writes_all_or_nothing(film, tmp_path):
    out = tmp_path / "both.mp4"

    def write(second, times1, times2, **options):
        write_side_by_side(out, film, "a", [Following(second, "b", np.array(times1), np.array(times2))], **options)

    with pytest.raises(ValueError, match="there is no match that another video could follow"):
        write(film, [], [])
    with pytest.raises(ValueError, match=r"one time for each of K matches, got \(1,\), \(2,\)"):
        write(film, [0.0], [0.0, 1.0])
    for times in ([0.2, 0.1], [0.1, 0.1], [0, np.nan]):
        with pytest.raises(ValueError, match="times2 must be finite seconds that increase"):
            write(film, [0, 0.1], times)
    with pytest.raises(ValueError, match="height must be a whole number of pixels, at least 2, got 0"):
        write(film, [0.0], [0.0], height=0)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(film.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"broken\.mp4"):
        write(broken, [0.0], [0.0])
    (tmp_path / "images").mkdir()
    for k in range(3):  # the last one is met in the middle of the work
        PIL.Image.fromarray(grey([9])[0]).save(tmp_path / "images" / f"{k}.png")
    (tmp_path / "images" / "2.png").write_bytes((tmp_path / "images" / "1.png").read_bytes()[:50])
    with pytest.raises(ValueError, match=r"2\.png is not an image"):
        write(tmp_path / "images", [0.0, 0.3], [0.0, 0.3])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.mp4", "images"]


# Folders of videos


@pytest.fixture
def videos(tmp_path):
    return write_videos(tmp_path / "videos")


def test_folder_of_videos(videos):
    data = lac.data.load("folder", videos, fps=5, size=8, backbone=None)
    assert (len(data.train), len(data.val), data.feature_shape) == (6, 2, (3, 8, 8))
    for one in data.train + data.val:
        k = int(one.name[-1])
        count = 30 + 2 * k
        at = np.arange(0, count, 5)
        np.testing.assert_allclose(one.times, at / 25, rtol=0, atol=1 / 90_000)
        phase = (at / (count - 1)) ** (0.7 + 0.1 * k)
        np.testing.assert_array_equal(one.labels, (3 * phase).astype(int).clip(max=2))
        # Once the disc has grown over the middle, the middle tells red and blue.
        grown = phase > 0.4
        red, _, blue = one.frames[grown, :, 3:5, 3:5].mean(axis=(2, 3)).T
        np.testing.assert_allclose(red, 2 * phase[grown] - 1, rtol=0, atol=0.1)
        np.testing.assert_allclose(blue, 1 - 2 * phase[grown], rtol=0, atol=0.1)
        assert one.frames.min() >= -1
        assert one.frames.max() <= 1


def film_of(path, seconds, rate, side=16):
    """A video of just so many seconds, with so many frames in each."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height = stream.width = side
        for picture in grey(np.arange(seconds * rate) % 200, side, side):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("lengths", "rate", "fps"),
    [
        ((1, 2, 8), 25, 25),  # the median clip has 2 s: 30 were asked for, and there are 25
        ((3, 4, 4, 5), 25, 15),
        ((4, 4), 50, 15),
        ((1, 1), 50, 30),
        ((8, 9, 12), 25, 10),
        ((2, 2), 5, 10),
    ],
)
def test_frames_a_second_follow_the_lengths(tmp_path, lengths, rate, fps):
    videos = [film_of(tmp_path / f"{k}.mp4", seconds, rate) for k, seconds in enumerate(lengths)]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    lines = []
    with told(lines.append):
        given = {"rate": 25.0, "images": False}
        assert choose([*videos, broken], fps=None, size=None, **given) == {"fps": fps, "size": 112}
        assert choose(videos[::-1], fps=None, size=64, **given) == {"fps": fps}
        assert choose(videos, fps=5.0, size=64, **given) == {}
        assert choose([broken], fps=None, size=None, **given) == {"fps": 10, "size": 112}
    assert len(lines) == 2
    median = np.median(lengths)
    assert (
        f"chosen for these videos: {fps:g} frames a second and 112 x 112 pixels; the median clip of {median:.1f} s"
        in lines[0]
    )
    assert (
        f" then has {median * min(fps, rate):.0f} frames; about 1 min for all on one core, once. To change" in lines[0]
    )
    assert lines[0].endswith(f"--set data.options.fps={10 if fps > 10 else 25} --set data.options.size=224")
    assert lines[1].endswith(f"--set data.options.fps={10 if fps > 10 else 25}")


def test_pictures_are_large_where_they_are_so_and_time_allows(tmp_path):
    large = film_of(tmp_path / "large.mp4", 4, 25, side=240)
    small = film_of(tmp_path / "small.mp4", 4, 25, side=200)

    def chosen(videos, **changes):
        return choose(videos, **({"fps": None, "size": None, "rate": 25.0, "images": False} | changes))

    assert chosen([large]) == {"fps": 15, "size": 224}
    assert chosen([large], images=True) == {"fps": 15, "size": 112}
    assert chosen([small, small, large]) == {"fps": 15, "size": 112}
    # 60 frames of 224 x 224 are 4.5 s of a core, so 132 such clips are ten minutes; of 112 x 112 it is 531.
    assert chosen([large] * 130)["size"] == 224
    assert chosen([large] * 135) == {"fps": 15, "size": 112}
    assert chosen([large] * 600) == {"fps": 13, "size": 112}
    assert chosen([large] * 3000) == {"fps": 10, "size": 112}


def test_what_videos_say_of_themselves(tmp_path):
    assert outline(film_of(tmp_path / "a.mp4", 4, 50, side=32)) == (4, 50, (32, 32))
    for name in ("a.mkv", "a.avi", "a.ts"):
        seconds, rate, shape = outline(film_of(tmp_path / name, 4, 50, side=32))
        assert (round(seconds, 1), rate, shape) == (4, 50, (32, 32)), name
    (tmp_path / "images").mkdir()
    for k in range(10):
        PIL.Image.fromarray(grey([k], 8, 12)[0]).save(tmp_path / "images" / f"{k}.png")
    assert outline(tmp_path / "images", rate=5) == (2, 5, (8, 12))
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="holds no frames"):
        outline(tmp_path / "none")


def test_labels_by_time(videos):
    (videos / "labels" / "clip0.csv").write_text("time, label\r\n0.5,1\r\n\r\n0.8,0\r\n")
    data = lac.data.load("folder", videos, fps=10, size=4, backbone=None)
    (one,) = [clip for clip in data.train + data.val if clip.name == "clip0"]
    np.testing.assert_array_equal(one.labels, np.select([one.times < 0.5, one.times < 0.8], [-1, 1], 0))


def test_features_come_before_the_videos_beside_them(videos):
    (videos / "features").mkdir()
    for k in range(8):
        np.save(videos / "features" / f"clip{k}.npy", np.full((50, 2), k))
    data = lac.data.load("folder", videos, backbone=None)
    assert data.feature_shape == (2,)
    assert set(data.val[0].labels) == {0, 1, 2}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels/clip9.csv", "time,label\n", r"clip 'clip9' has labels but no videos: there is no .*clip9\.\*"),
        ("videos/clip3.avi", "", r"clip 'clip3' has two files of videos"),
        ("split.json", '{"train": ["clip1"], "val": ["nobody"]}', r"there is no videos/nobody\.\*"),
    ],
)
def test_broken_folders_of_videos_are_named(videos, name, content, message):
    (videos / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        lac.data.load("folder", videos, size=4, backbone=None)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("labels/clip3.csv", "1 at 0 s", " must start with the line time,label or frame,label, got '1 at 0 s'; more"),
        ("labels/clip3.csv", "", " must start with the line time,label or frame,label, got ''"),
        (
            "labels/clip3.csv",
            "time,label,time\n0,1,0\n",
            " must start with the line time,label or frame,label, got 'ti",
        ),
        ("labels/clip3.csv", "time,label\n0,1\n0.5,x\n", ", line 3: the label 'x' is no whole number, and others are"),
        ("labels/clip3.csv", "0,1\n0.5,1,2\n", ", line 2: expected 2 cells, 'time,label', got '0.5,1,2'"),
        ("labels/clip3.csv", "0,1\n0.8\n", ", line 2: expected 2 cells, 'time,label', got '0.8'"),
        ("labels/clip3.csv", "frame,label\n0,1\nx,2\n", ", line 3: expected frame, label, like 12,3 with a number for"),
        ("labels/clip3.csv", "time,label\n0,1,2\n", ", line 2: expected 2 cells, 'time,label', got '0,1,2'"),
        ("labels/clip3.csv", "time,label\n0,5,1\n", ", line 2: expected 2 cells"),
        ("labels/clip3.csv", "time,label\n1,1\n0.5,2\n", ", line 3: times must increase, got 0.5 after 1"),
        ("labels/clip3.csv", "time,label\n0,1\ninf,2\n", ", line 3: expected time, label, like 12,3 with a number for"),
        ("labels/clip3.csv", "time,label\n0,99999\n", ", line 2: a label must be at most 10000, got 99999"),
        ("labels/clip3.csv", b"time,label\n\xff", " is not a CSV file in UTF-8"),
        ("labels/clip3.csv", "time,label\n0," + "1" * 200_000, " is not a CSV file in UTF-8: field larger than"),
        ("videos/clip3.mp4", "no video", " is not a video"),
        ("videos/clip3.mp4", "", " is not a video"),
    ],
)
def test_a_bad_video_is_left_out_and_bad_labels_alone(videos, name, content, reason):
    (videos / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    data = lac.data.load("folder", videos, size=4, backbone=None)
    clips = {one.name: one for one in data.train + data.val}
    if name.startswith("labels"):
        assert (data.left_out, list(data.unlabelled)) == ({}, ["clip3"])
        assert [one for one in clips if clips[one].labels is None] == ["clip3"]
    else:
        assert (list(data.left_out), data.unlabelled, len(clips)) == (["clip3"], {}, 7)
    assert f"{videos / name}{reason}" in (data.left_out | data.unlabelled)["clip3"]


@pytest.mark.parametrize(
    "text",
    [
        "time,label\n0.5,1\n0.8,0\n",
        "label,time\r\n1,0.5\r\n0,0.8",
        "\ufeffTime; Label\n0.5; 1\n0,8; 0\n",
        "who\tlabel\tcomment\ttime\nme\t1\t\t0,5\n\t\t\t\nme\t0\tend, really\t0.8\n",
        '"time","label","note"\n"0.5","1","a, b"\n0.8,0,\n',
        "0.5,1\n0.8,0\n",
        "\ufeff0,5;1\r\n0,8;0\r\n",
        "\n 0.5 \t 1.0\t\n\n0.8\t0\t\n",
        "0,-1\n0.5,1\n0.8,0",
        "frame,label\n13,1\n20,0\n",
    ],
)
def test_labels_by_time_in_every_clear_form(videos, text):
    (videos / "labels" / "clip0.csv").write_bytes(text.encode())
    data = lac.data.load("folder", videos, fps=10, size=4, backbone=None)
    assert data.unlabelled == {}
    (one,) = [clip for clip in data.train + data.val if clip.name == "clip0"]
    np.testing.assert_array_equal(one.labels, np.select([one.times < 0.5, one.times < 0.8], [-1, 1], 0))


@pytest.mark.parametrize("listed", [True, False])
def test_labels_by_name(videos, listed):
    """As `label_names.json` has them, else in the order of clips and lines; -1 and nothing are no phase."""
    for number, text in enumerate(["0,-1\n0.5,pour\n0.8,reach", "time;label\n0;reach\n0,5;put back\n0,8;"] * 4):
        (videos / "labels" / f"clip{number}.csv").write_text(text)
    if listed:
        (videos / "label_names.json").write_text('["reach", "pour", "put back", "wait"]')
        (videos / "labels" / "clip1.csv").write_text("0,0\n0.5,put back\n0.8,-1")  # numbers and names
    data = lac.data.load("folder", videos, fps=10, size=4, backbone=None)
    assert data.unlabelled == {}
    assert data.label_names == (["reach", "pour", "put back", "wait"] if listed else ["pour", "reach", "put back"])
    clips = {one.name: one for one in data.train + data.val}
    reach, pour, back = map(data.label_names.index, ("reach", "pour", "put back"))
    for name, first, then, last in (("clip0", -1, pour, reach), ("clip1", reach, back, -1)):
        times = clips[name].times
        np.testing.assert_array_equal(clips[name].labels, np.select([times < 0.5, times < 0.8], [first, then], last))


def test_names_that_have_no_number(videos):
    (videos / "labels" / "clip3.csv").write_text("0,reach\n0.5,pour")
    data = lac.data.load("folder", videos, fps=10, size=4, backbone=None)
    assert "clip3.csv, line 1: the label 'reach' is no whole number, and others are; list" in data.unlabelled["clip3"]
    (videos / "label_names.json").write_text('["reach", "hold", "put"]')
    data = lac.data.load("folder", videos, fps=10, size=4, backbone=None)
    assert (
        "line 2: the label 'pour' is no whole number, and not one of label_names.json: reach"
        in (data.unlabelled["clip3"])
    )
    assert sum(one.labels is not None for one in data.train + data.val) == 7


def test_a_video_that_is_cut_or_without_frames_is_left_out(videos):
    path = videos / "videos" / "clip3.mp4"
    path.write_bytes(path.read_bytes()[:-200])
    empty = videos / "videos" / "clip4.mp4"
    with av.open(str(empty), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height = stream.width = 16
        stream.pix_fmt = "yuv420p"
        container.start_encoding()
    (videos / "videos" / "clip5.mp4").unlink()
    (videos / "videos" / "clip5").mkdir()
    image = videos / "videos" / "clip6" / "0.png"
    (videos / "videos" / "clip6.mp4").unlink()
    image.parent.mkdir()
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(image)
    image.write_bytes(image.read_bytes()[:200])
    data = lac.data.load("folder", videos, size=4, backbone=None)
    assert sorted(one.name for one in data.train + data.val) == ["clip0", "clip1", "clip2", "clip7"]
    assert "clip3.mp4 is not a video" in data.left_out["clip3"]
    assert "clip4.mp4 " in data.left_out["clip4"]
    assert data.left_out["clip5"].endswith("clip5 holds no frames")
    assert "clip6/0.png is not an image" in data.left_out["clip6"]


def test_labels_of_a_video_count_all_its_frames(tmp_path):
    (tmp_path / "labels").mkdir()
    for name in "abcd":
        write_video(tmp_path / "videos" / f"{name}.mp4", grey(LEVELS), TIMES)
        np.save(tmp_path / "labels" / f"{name}.npy", np.arange(12))
    pictures = tmp_path / "videos" / "e"
    pictures.mkdir()
    for k in range(12):
        PIL.Image.fromarray(grey(LEVELS)[k]).save(pictures / f"{k}.png")
    np.save(tmp_path / "labels" / "e.npy", np.arange(12))
    np.save(tmp_path / "labels" / "c.npy", np.arange(11))
    np.save(tmp_path / "labels" / "d.npy", np.arange(6))  # one for each frame that is kept
    data = lac.data.load("folder", tmp_path, fps=5, size=4, rate=10, backbone=None)
    assert data.unlabelled["c"].startswith(
        f"{tmp_path / 'labels' / 'c.npy'} holds 11 labels, but the clip has 12 frames (off by one)"
    )
    assert "d.npy holds 6 labels, but the clip has 12 frames; give one label" in data.unlabelled["d"]
    clips = {one.name: one for one in data.train + data.val}
    assert [name for name in sorted(clips) if clips[name].labels is not None] == ["a", "b", "e"]
    for name, kept in (("a", [0, 5, 7, 9, 10, 11]), ("b", [0, 5, 7, 9, 10, 11]), ("e", [0, 2, 4, 6, 8, 10])):
        assert clips[name].labels.tolist() == kept
        assert_levels((clips[name].frames + 1) * 127.5, LEVELS[kept])
    np.testing.assert_allclose(clips["a"].times, TIMES[clips["a"].labels], rtol=0, atol=1 / 90_000)


def test_times_beside_videos_are_refused(videos):
    (videos / "times").mkdir()
    for k in range(8):
        np.save(videos / "times" / f"clip{k}.npy", np.arange(9))
    with pytest.raises(ValueError, match="times is for features"):
        lac.data.load("folder", videos, backbone=None)
