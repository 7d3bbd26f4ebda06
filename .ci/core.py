"""In a venv with `pip install .` and no extra: a loss from every engine that can run; commands say what they lack."""

import subprocess
import sys
from importlib import metadata

import torch

import lac
from lac_kernels import engines


def extras_present() -> list[str]:
    """Distributions of the extras that are installed all the same."""
    names = [line for line in metadata.requires("lac-loss") or [] if "extra ==" in line]
    found = []
    for line in names:
        name = line.replace("[", " ").replace(">", " ").replace("=", " ").replace(";", " ").split()[0]
        try:
            metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found.append(name)
    return [name for name in found if name != "lac-loss"]


def main() -> None:
    if present := extras_present():
        sys.exit(f"this venv is to hold the core alone, but has {', '.join(present)}")
    print(*sorted(f"{x.metadata['Name']} {x.version}" for x in metadata.distributions()), sep="\n")
    torch.manual_seed(0)
    encoder = lac.FrameEncoder(6, embed_dim=16)
    views = torch.randn(4, 20, 6), torch.randn(4, 25, 6)
    values = {}
    device = torch.device("cpu")
    for backend in engines.BACKENDS:
        if reason := engines.unavailable(backend, device):
            print(f"{backend}: {reason}")
            continue
        loss = lac.LACLoss(backend=backend)
        value = loss(*map(encoder, views))
        value.backward()
        learned = [x for x in loss.parameters() if x.requires_grad]
        assert learned
        assert all(x.grad is not None and x.grad.isfinite().all() for x in learned)
        values[backend] = value.item()
    print(values)
    assert {"auto", "reference", "eager"} <= set(values)
    assert max(values.values()) - min(values.values()) < 1e-4 * abs(values["eager"])
    done = subprocess.run([sys.executable, "-m", "lac.cli.train"], capture_output=True, text=True, check=False)
    print(done.stderr)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert 'pip install ".[train]" in a clone of lac' in done.stderr
    subprocess.run([sys.executable, "-m", "lac.cli.doctor"], check=True)


if __name__ == "__main__":
    main()
