"""Spoken digits: log-mel bands, the two forms of the data set, streams, and what is refused."""

import os
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

import lac
import lac.data
from lac.data import digits
from lac.data.sound import band_edges, log_mel, read_wav

SPEAKERS = ("ann", "bob", "cid", "dan")
SPOKEN = (0, 3, 7)
NUMBERS = (0, 1, 2)


def write_wav(path, samples, rate=8000, channels=1, size=2):
    """Samples within -1 and 1 as whole numbers of `size` bytes."""
    whole = np.rint(samples * (2 ** (8 * size - 1) - 1)).astype(int)
    content = (whole + 128).astype(np.uint8) if size == 1 else whole.astype(f"<i{size}")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(size)
        file.setframerate(rate)
        file.writeframes(content.tobytes())
    return path


def tone(frequency, seconds=0.4):
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(8000 * seconds)) / 8000)


def spoken(digit, place, number):
    """A made-up word: a tone of the digit, louder and longer for some speakers, with a little noise."""
    rng = np.random.default_rng([digit, place, number])
    sound = (0.4 + 0.1 * place) * tone(300 + 350 * digit, 0.25 + 0.05 * place + 0.03 * number)
    return sound + rng.normal(0, 1e-3, len(sound))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits")
    (root / "recordings").mkdir()
    (root / "README.md").write_text("not a recording")
    (root / "recordings" / "._0_ann_0.wav").write_bytes(b"what a Mac leaves behind")
    for place, speaker in enumerate(SPEAKERS):
        for digit in SPOKEN:
            for number in NUMBERS:
                sound = spoken(digit, place, number)
                write_wav(root / "recordings" / f"{digit}_{speaker}_{number}.wav", sound)
    return root


def arrays(folder):
    """The same recordings as the packed file holds them."""
    keys = [(digit, place, number) for digit in SPOKEN for place in range(len(SPEAKERS)) for number in NUMBERS]
    bands = [log_mel(read_wav(folder / "recordings" / f"{d}_{SPEAKERS[p]}_{n}.wav")) for d, p, n in keys]
    meta = [(*key, len(frames)) for key, frames in zip(keys, bands, strict=True)]
    return {
        "frames": np.concatenate(bands).astype(np.float16),
        "meta": np.array(meta, dtype=np.int32),
        "speakers": np.array(SPEAKERS),
    }


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "digits.npz"
    np.savez(path, **arrays(folder))
    return path


# Sound


def test_log_mel_against_plain_loops():
    x = np.random.default_rng(0).uniform(-1, 1, 430)
    edges = [700 * (10 ** (m / 2595) - 1) for m in np.linspace(*(2595 * np.log10(1 + f / 700) for f in (60, 3900)), 42)]
    expected = np.zeros((3, 40))  # (430 - 200) / 80 is 2 and a rest
    for t in range(3):
        y = [x[k] - (0.97 * x[k - 1] if k else 0) for k in range(80 * t, 80 * t + 200)]
        w = [0.54 - 0.46 * np.cos(2 * np.pi * n / 199) for n in range(200)]
        for b in range(40):
            power = 1e-8
            for k in range(129):
                f = 31.25 * k
                low, top, high = edges[b : b + 3]
                opened = max(0, min((f - low) / (top - low), (high - f) / (high - top)))
                if opened:
                    power += (
                        opened * abs(sum(w[n] * y[n] * np.exp(-2j * np.pi * f * n / 8000) for n in range(200))) ** 2
                    )
            expected[t, b] = np.log(power)
    bands = log_mel(x)
    assert (bands.dtype, bands.shape) == (np.float32, (3, 40))
    np.testing.assert_allclose(bands, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("band", [3, 12, 25, 39])
def test_the_band_of_a_tone_is_the_loudest(tmp_path, band):
    samples = read_wav(write_wav(tmp_path / "a.wav", tone(band_edges()[band + 1])))
    bands = log_mel(samples)
    assert bands.shape == (1 + (3200 - 200) // 80, 40)
    # The bands at the bottom are narrower than the window can tell apart.
    assert (np.abs(bands.argmax(axis=1) - band) <= (1 if band < 5 else 0)).all()


def test_silence_and_loudness():
    np.testing.assert_allclose(log_mel(np.zeros(200)), np.log(1e-8), rtol=1e-6)
    loud = np.random.default_rng(0).uniform(-1, 1, 800)
    np.testing.assert_allclose(log_mel(loud) - log_mel(loud / 2), np.log(4), rtol=1e-4)
    with pytest.raises(ValueError, match="a frame needs 200 samples, got 199"):
        log_mel(np.zeros(199))


def test_read_wav_gives_the_samples(tmp_path):
    samples = np.array([0, 1, -1, 0.5])
    whole = read_wav(write_wav(tmp_path / "a.wav", samples))
    np.testing.assert_allclose(whole, samples * 32767 / 32768, rtol=0, atol=1e-4)


# The data set


def test_the_folder_and_the_packed_file_agree(folder, packed):
    for options in ({}, {"untrimmed": False}):
        for root in (folder, folder / "recordings"):
            one, other = (lac.data.load("digits", place, **options) for place in (root, packed))
            assert one.name == other.name
            for left, right in zip(one.train + one.val, other.train + other.val, strict=True):
                assert (left.name, left.action, left.person) == (right.name, right.action, right.person)
                np.testing.assert_array_equal(left.labels, right.labels)
                np.testing.assert_array_equal(left.times, right.times)
                np.testing.assert_allclose(left.frames, right.frames, rtol=0, atol=0.02)  # float16 of -18 to 6


def test_a_clip_is_a_digit(packed):
    data = lac.data.load("digits", packed, untrimmed=False, repetitions=2)
    assert data.name == "digits trimmed"
    some = lac.data.load("digits", packed, untrimmed=False, digits=[SPOKEN[1], SPOKEN[0]])
    assert some.name == f"digits {SPOKEN[0]} {SPOKEN[1]} trimmed"
    assert data.label_names == list("0123456789")
    assert data.feature_shape == (40,)
    # Evenly from the numbers 0, 1 and 2, and every digit among the first of those to train on.
    assert [clip.name for clip in data.train] == [
        f"{d}_{s}_{n}" for n in (0, 2) for s in ("ann", "bob") for d in SPOKEN
    ]
    assert [clip.name for clip in data.val] == [f"{d}_{s}_{n}" for d in SPOKEN for n in (0, 2) for s in ("cid", "dan")]
    for clip in data.train + data.val:
        digit, speaker, number = clip.name.split("_")
        assert (clip.action, clip.person) == (digit, speaker)
        assert (clip.labels == int(digit)).all()
        samples = len(spoken(int(digit), SPEAKERS.index(speaker), int(number)))
        assert len(clip) == 1 + (samples - 200) // 80
        np.testing.assert_allclose(clip.times, np.arange(len(clip)) / 100, rtol=0, atol=1e-12)


def test_other_digits_of_the_speaker_stand_before_and_after(packed):
    data = lac.data.load("digits", packed, speed=(1.0, 1.0))
    whole = lac.data.load("digits", packed, untrimmed=False)
    assert data.name == "digits untrimmed"
    around = 0
    for clip, alone in zip(data.train + data.val, whole.train + whole.val, strict=True):
        assert (clip.name, clip.action, clip.person) == (alone.name, alone.action, alone.person)
        inside = clip.labels >= 0
        np.testing.assert_array_equal(clip.labels[inside], alone.labels)
        np.testing.assert_array_equal(clip.frames[inside], alone.frames)
        own = {
            frame.tobytes()
            for other in whole.train + whole.val
            if other.person == clip.person and other.action != clip.action
            for frame in other.frames
        }
        assert all(frame.tobytes() in own for frame in clip.frames[~inside])
        before = int(np.argmax(inside))
        assert max(before, len(clip) - before - len(alone)) <= 40
        around += int((~inside).sum())
    assert around > 0


def test_speed_and_seed(packed):
    one, again, other = (lac.data.load("digits", packed, seed=seed) for seed in (0, 0, 1))
    for left, right in zip(one.train, again.train, strict=True):
        np.testing.assert_array_equal(left.frames, right.frames)
    assert [len(clip) for clip in one.train] != [len(clip) for clip in other.train]
    twice = lac.data.load("digits", packed, speed=(2.0, 2.0), max_distractors=0)
    alone = lac.data.load("digits", packed, untrimmed=False)
    for fast, slow in zip(twice.val, alone.val, strict=True):
        np.testing.assert_array_equal(fast.frames, slow.frames[::2])
        np.testing.assert_allclose(np.diff(fast.times), 0.01, rtol=0, atol=1e-12)


def test_frames_are_standardised_by_speaker(packed):
    data = lac.data.load("digits", packed, untrimmed=False)
    for speaker in SPEAKERS:
        frames = np.concatenate([clip.frames for clip in data.train + data.val if clip.person == speaker])
        np.testing.assert_allclose(frames.mean(axis=0), 0, rtol=0, atol=1e-4)
        np.testing.assert_allclose(frames.std(axis=0), 1, rtol=0, atol=1e-4)
    # Statistics of all that a speaker says, whatever of it is taken.
    few = lac.data.load("digits", packed, untrimmed=False, digits=[7], repetitions=1)
    same = {clip.name: clip for clip in data.train + data.val}
    for clip in few.train + few.val:
        np.testing.assert_array_equal(clip.frames, same[clip.name].frames)


def test_a_band_that_never_changes(folder, tmp_path):
    bands = arrays(folder)
    bands["frames"][:, 5] = -3
    np.savez(tmp_path / "a.npz", **bands)
    data = lac.data.load("digits", tmp_path / "a.npz")
    np.testing.assert_array_equal([clip.frames[:, 5].any() for clip in data.train], False)


def test_speakers_and_digits_are_chosen(packed):
    def people(**options):
        data = lac.data.load("digits", packed, **options)
        return tuple(sorted({clip.person for clip in split}) for split in (data.train, data.val))

    assert people() == (["ann", "bob"], ["cid", "dan"])
    assert people(val_speakers=["bob"]) == (["ann", "cid", "dan"], ["bob"])
    assert people(train_speakers=["dan"]) == (["dan"], ["bob", "cid"])
    assert people(train_speakers=["ann"], val_speakers=["bob"]) == (["ann"], ["bob"])
    data = lac.data.load("digits", packed, digits=[7, 0])
    assert {clip.action for clip in data.train} == {clip.action for clip in data.val} == {"0", "7"}
    # The pieces before and after may be of digits that were not asked for.
    assert len(data.train) == 12


# Streams


def test_streams_are_recordings_one_after_another(packed):
    whole = lac.data.load("digits", packed, untrimmed=False)
    streams = digits.streams(packed, n_digits=12, seed=3)
    assert [stream.speaker for stream in streams] == list(SPEAKERS)
    for stream in streams:
        assert len(stream.occurrences) == 12
        np.testing.assert_allclose(stream.times, np.arange(len(stream.frames)) / 100, rtol=0, atol=1e-12)
        at = 0
        for occurrence in stream.occurrences:
            assert (type(occurrence.start), type(occurrence.end)) == (int, int)
            assert occurrence.start == at
            at = occurrence.end
            said = [
                c for c in whole.train + whole.val if (c.action, c.person) == (str(occurrence.digit), stream.speaker)
            ]
            part = stream.frames[occurrence.start : occurrence.end]
            assert any(np.array_equal(part, clip.frames) for clip in said)
        assert at == len(stream.frames)


def test_streams_are_drawn_by_the_seed_for_each_speaker(packed):
    everybody, other = (digits.streams(packed, seed=seed) for seed in (0, 1))
    (bob,) = digits.streams(packed, speakers=["bob"])
    np.testing.assert_array_equal(bob.frames, everybody[1].frames)
    assert bob.occurrences == everybody[1].occurrences != other[1].occurrences
    assert len(bob.occurrences) == 30
    assert {occurrence.digit for occurrence in bob.occurrences} == set(SPOKEN)
    assert [occurrence.digit for occurrence in everybody[0].occurrences] != [o.digit for o in bob.occurrences]


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repetitions": 0}, "repetitions must be >= 1"),
        ({"max_distractors": -1}, "max_distractors >= 0, got 5 and -1"),
        ({"speed": (0, 1)}, "speed must be 0 < low <= high"),
        ({"speed": (1, float("inf"))}, "speed must be 0 < low <= high"),
        ({"digits": "seven"}, "digits must be 'all' or a list of digits from 0 to 9, got 'seven'"),
        ({"digits": []}, "digits must be 'all' or a list"),
        ({"digits": [1, 10]}, "digits must be 'all' or a list"),
        ({"digits": [1.5]}, "data.options.digits must be text or a list"),
        ({"val_speakers": ["eve"]}, "unknown speaker 'eve': the speakers are ann, bob, cid, dan"),
        ({"train_speakers": ["ann", "eve"]}, "unknown speaker 'eve'"),
        ({"val_speakers": "ann"}, "data.options.val_speakers must be a list"),
        ({"train_speakers": ["ann"], "val_speakers": ["ann", "bob"]}, "'ann' is both in train_speakers and in val"),
        ({"val_speakers": list(SPEAKERS)}, r"digits\.npz: .*the train split has no clip"),
        ({"val_speakers": []}, r"digits\.npz: .*the val split has no clip"),
        ({"digits": [5]}, r"digits\.npz: .*the train split has no clip"),
    ],
)
def test_options_out_of_range(packed, options, message):
    with pytest.raises(ValueError, match=message):
        lac.data.load("digits", packed, **options)


def test_streams_out_of_range(packed):
    with pytest.raises(ValueError, match="n_digits must be >= 1, got 0"):
        digits.streams(packed, n_digits=0)
    with pytest.raises(ValueError, match="unknown speaker 'eve': the speakers are ann"):
        digits.streams(packed, speakers=["eve"])


def test_a_place_is_needed(packed, tmp_path, monkeypatch):
    monkeypatch.delenv("LAC_DIGITS", raising=False)
    for read in (lambda root=None: lac.data.load("digits", root), digits.streams):
        with pytest.raises(FileNotFoundError, match="set LAC_DIGITS to the folder"):
            read()
        with pytest.raises(FileNotFoundError, match=r"no file or folder .*nowhere"):
            read(tmp_path / "nowhere")
        with pytest.raises(FileNotFoundError, match=r"no file such as 7_jackson_32\.wav in .*recordings"):
            read(tmp_path)
    monkeypatch.setenv("LAC_DIGITS", str(packed))
    assert len(lac.data.load("digits").train) == 18
    assert len(digits.streams()) == 4


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"rate": 16000}, r"expected 8000 Hz, 1 channel, 16 bits, got 16000 Hz, 1 channel, 16 bits; convert it"),
        ({"channels": 2}, "got 8000 Hz, 2 channels, 16 bits"),
        ({"size": 1}, "got 8000 Hz, 1 channel, 8 bits"),
        ({"size": 4}, "got 8000 Hz, 1 channel, 32 bits"),
    ],
)
def test_wav_files_of_another_form(tmp_path, form, message):
    write_wav(tmp_path / "0_ann_0.wav", tone(400), **form)
    with pytest.raises(ValueError, match=rf"0_ann_0\.wav: .*{message}"):
        lac.data.load("digits", tmp_path)


@pytest.mark.parametrize(
    ("left", "message"),
    [
        (0, r"is not an uncompressed \.wav: EOFError"),
        (30, r"is not an uncompressed \.wav: EOFError"),
        (45, "its header promises 3200 samples, but 0 follow: it is cut short"),
        (2044, "its header promises 3200 samples, but 1000 follow"),
        (6443, "its header promises 3200 samples, but 3199 follow"),
    ],
)
def test_wav_files_cut_short(tmp_path, left, message):
    path = write_wav(tmp_path / "0_ann_0.wav", tone(400))
    content = path.read_bytes()
    assert len(content) == 6444
    path.write_bytes(content[:left])
    with pytest.raises(ValueError, match=rf"0_ann_0\.wav.* {message}"):
        lac.data.load("digits", tmp_path)


def test_wav_files_that_are_none_or_hold_too_little(tmp_path):
    path = tmp_path / "0_ann_0.wav"
    path.write_text("<html>not found</html>")
    with pytest.raises(ValueError, match=r"0_ann_0\.wav is not an uncompressed \.wav: file does not start with RIFF"):
        lac.data.load("digits", tmp_path)
    write_wav(path, tone(400, 0.02))
    with pytest.raises(ValueError, match=r"0_ann_0\.wav: a frame needs 200 samples, got 160"):
        lac.data.load("digits", tmp_path)


@pytest.mark.parametrize("name", ["10_ann_0", "0_ann", "0__0", "0_ann_00", "x_ann_0", "noise"])
def test_wav_files_with_other_names(folder, tmp_path, name):
    write_wav(tmp_path / "0_ann_0.wav", tone(400))
    write_wav(tmp_path / f"{name}.wav", tone(400))
    with pytest.raises(ValueError, match=rf"{name}\.wav: expected a name such as 7_jackson_32\.wav"):
        lac.data.load("digits", tmp_path)


def changed(meta, row, column, value):
    meta = meta.copy()
    meta[row, column] = value
    return meta


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {"frames": a["frames"][:-1]}, r"meta has \d+ frames of 40 bands, but frames are \(\d+, 40\)"),
        (lambda a: {"frames": a["frames"][:, :39]}, r"of 40 bands, but frames are \(\d+, 39\)"),
        (lambda a: {"frames": a["frames"] * np.nan}, "frames must be finite"),
        (lambda a: {"frames": np.full(a["frames"].shape, 1e39)}, "frames must be finite numbers within float32"),
        (lambda a: {"frames": a["frames"].astype(str)}, "frames must be finite numbers .*, got <U"),
        (lambda a: {"meta": a["meta"][:, :3]}, r"meta must be \(recordings, 4\) whole numbers, got \(36, 3\)"),
        (lambda a: {"meta": a["meta"].astype(float)}, r"meta must be .* float64"),
        (lambda a: {"meta": a["meta"][:0], "frames": a["frames"][:0]}, r"meta must be .*got \(0, 4\)"),
        (lambda a: {"meta": changed(a["meta"], 3, 3, 0)}, "lengths from 1, got"),
        (lambda a: {"meta": changed(a["meta"], 3, 0, 10)}, "meta must hold digits 0 to 9"),
        (lambda a: {"meta": changed(a["meta"], 3, 1, 4)}, "places of 4 speakers"),
        (lambda a: {"meta": changed(a["meta"], 3, 2, -1)}, "numbers from 0"),
        (lambda a: {"speakers": np.arange(4)}, r"speakers must be \(speakers,\) names, got \(4,\) int64"),
        (lambda a: {"speakers": np.array(["../ann", "bob", "cid", "dan"])}, "'0_../ann_0' cannot be a name"),
        (lambda a: {"speakers": np.array(["bob", "bob", "cid", "dan"])}, "two clips are called '0_bob_0'"),
    ],
)
def test_packed_files_that_do_not_add_up(folder, tmp_path, change, message):
    good = arrays(folder)
    np.savez(tmp_path / "a.npz", **good | change(good))
    with pytest.raises(ValueError, match=rf"a\.npz: .*{message}"):
        lac.data.load("digits", tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["frames", "meta", "speakers"])
def test_packed_files_that_lack_an_array(folder, tmp_path, name):
    good = arrays(folder)
    del good[name]
    np.savez(tmp_path / "a.npz", **good)
    with pytest.raises(ValueError, match=rf"a\.npz is not an archive of the arrays frames, meta, speakers: .*{name}"):
        lac.data.load("digits", tmp_path / "a.npz")


# The published data

REAL = os.environ.get("LAC_DIGITS")


@pytest.mark.skipif(not REAL, reason="LAC_DIGITS is not set")
def test_real_digits():
    data = lac.data.load("digits")
    assert (len(data.train), len(data.val)) == (200, 100)
    assert {clip.person for clip in data.train} == {"george", "jackson", "lucas", "nicolas"}
    assert {clip.person for clip in data.val} == {"theo", "yweweler"}
    for tenth in (data.train[:20], data.val):
        assert {clip.action for clip in tenth} == set(data.label_names)
    seconds = [(clip.labels >= 0).sum() / 100 for clip in data.train + data.val]
    assert 0.1 < min(seconds) < max(seconds) < 3
    assert 0.3 < np.median(seconds) < 0.5


@pytest.mark.skipif(not REAL, reason="LAC_DIGITS is not set")
def test_real_streams():
    streams = digits.streams()
    assert len(streams) == 6
    for stream in streams:
        assert 8 < stream.times[-1] < 20
        assert len({occurrence.digit for occurrence in stream.occurrences}) > 5


@pytest.mark.skipif(not REAL, reason="LAC_DIGITS is not set")
def test_a_spoken_query_is_found_in_streams_of_others():
    def unit(frames):
        both = torch.from_numpy(np.concatenate([frames, 2 * np.gradient(frames, axis=0)], axis=1))
        return torch.nn.functional.normalize(both, dim=1)

    streams = digits.streams(seed=1)
    right = []
    for query in lac.data.load("digits", untrimmed=False, repetitions=1).val:
        for stream in streams:
            if stream.speaker != query.person:
                scores = unit(query.frames) @ unit(stream.frames).T - 0.2
                (path,) = lac.hard_alignment(scores, gap_open=1.0, gap_extend=0.3).paths
                middle = int(path[len(path) // 2, 1])
                (digit,) = [o.digit for o in stream.occurrences if o.start <= middle < o.end]
                right.append(str(digit) == query.action)
    assert len(right) == 100
    assert np.mean(right) > 0.3  # a guess is right once in ten


@pytest.mark.skipif(not (REAL and Path(REAL).is_dir()), reason="LAC_DIGITS is not the publisher's folder")
def test_the_published_folder_is_whole():
    recordings = digits._official(Path(REAL))
    assert len(recordings) == 3000
    assert sum(len(recording.frames) for recording in recordings) == 125237
