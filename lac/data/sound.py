"""Sound: the samples of a `.wav`, and log-mel bands, how loud it is in each band of frequency, frame by frame.

Davis and Mermelstein, "Comparison of Parametric Representations for Monosyllabic Word Recognition in Continuously
Spoken Sentences", IEEE Transactions on Acoustics, Speech, and Signal Processing 28(4), 1980; the mel scale and the
other choices are those that became usual with the HTK toolkit (Young et al., "The HTK Book", 2006).
"""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from lac.bounds import open_file
from lac.errors import DataError

SAMPLE_RATE = 8000  # samples a second, as a telephone has them
FRAME_RATE = 100.0
BANDS = 40
LOWEST, HIGHEST = 60.0, 3900.0  # Hz, where the first band begins and the last one ends

_HOP = round(SAMPLE_RATE / FRAME_RATE)
_WINDOW = 200  # samples: 25 ms
_FOURIER = 256  # samples that a window is filled up to
_PRE_EMPHASIS = 0.97
_LEAST_POWER = 1e-8  # added to every band: silence has a logarithm too
_SAMPLE_BYTES = 2
_FULL_SCALE = 32768.0  # of 16 bits


def read_wav(path: Path) -> np.ndarray:
    """The samples of a `.wav` at 8 kHz, one channel, 16 bits a sample, uncompressed.

    Returns:
        (samples,) float64 within -1 and 1.

    Raises:
        ValueError: it is no such file, or it is cut short. The message names it.
    """
    with open_file(path) as file:
        try:
            with wave.open(file) as sound:
                form = sound.getframerate(), sound.getnchannels(), sound.getsampwidth()
                promised = sound.getnframes()
                # A damaged header may promise gigabytes; no more is asked for than the file can hold.
                content = sound.readframes(min(promised, path.stat().st_size))
        except Exception as error:  # a damaged header can raise anything
            raise DataError(f"{path} is not an uncompressed .wav: {str(error) or type(error).__name__}") from error
    if form != (SAMPLE_RATE, 1, _SAMPLE_BYTES):
        rate, channels, size = form
        raise DataError(
            f"{path}: expected {SAMPLE_RATE} Hz, 1 channel, {8 * _SAMPLE_BYTES} bits, got {rate} Hz, {channels} "
            f"channel{'s' if channels != 1 else ''}, {8 * size} bits; convert it, or take the publisher's file"
        )
    if len(content) != promised * _SAMPLE_BYTES:
        raise DataError(
            f"{path}: its header promises {promised} samples, but {len(content) // _SAMPLE_BYTES} follow: it is cut "
            "short or damaged"
        )
    return np.frombuffer(content, dtype="<i2") / _FULL_SCALE


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Log-mel bands of a sound at 8 kHz.

    With pre-emphasis y_n = x_n - 0.97 x_(n-1), frame t, its Hamming window w of 25 ms, and band b,

        P_t(f) = |sum over n < 200 of w_n y_(80 t + n) exp(-2 pi i f n / 8000)|^2,    f = 0, 31.25 ... 4000 Hz
        L_tb   = log(1e-8 + sum over f of h_b(f) P_t(f)).

    Filter h_b is a triangle: 0 up to e_b, 1 at e_(b+1), 0 from e_(b+2) on, where e_0 ... e_41 lie at equal steps of
    the mel scale, 2595 log10(1 + f / 700), from 60 to 3900 Hz. The Fourier transform is taken at 256 points.

    Args:
        samples: (samples,) floating point, within -1 and 1; x_(-1) = 0.

    Returns:
        (T, 40) float32, 100 frames a second, natural logarithms; T = 1 + floor((samples - 200) / 80). Frame t begins
        at t / 100 seconds; what is left at the end and fills no window is left out.

    Raises:
        ValueError: there are fewer than 200 samples.
    """
    if len(samples) < _WINDOW:
        raise DataError(f"a frame needs {_WINDOW} samples, got {len(samples)}")
    emphasised = np.append(samples[:1], samples[1:] - _PRE_EMPHASIS * samples[:-1])
    windows = np.lib.stride_tricks.sliding_window_view(emphasised, _WINDOW)[::_HOP] * np.hamming(_WINDOW)
    power = np.abs(np.fft.rfft(windows, _FOURIER)) ** 2
    return np.asarray(np.log(power @ _filters().T + _LEAST_POWER), dtype=np.float32)


def band_edges() -> np.ndarray:
    """(42,) Hz: band b begins at entry b, is most open at b + 1 and ends at b + 2."""
    low, high = (2595 * np.log10(1 + edge / 700) for edge in (LOWEST, HIGHEST))
    return np.asarray(700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1))


def _filters() -> np.ndarray:
    """(40, 129): how far each band is open at each frequency of the Fourier transform."""
    edges = band_edges()[:, None]
    frequencies = np.arange(_FOURIER // 2 + 1) * SAMPLE_RATE / _FOURIER
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(0, np.minimum(rising, falling)))
