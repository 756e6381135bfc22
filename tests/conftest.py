import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Real handwritten digits, 20 each of 0, 1 and 7, as class folders."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("digits")
    images, labels = load_digits(return_X_y=True)
    for digit in (0, 1, 7):
        (folder / str(digit)).mkdir()
        for index in np.flatnonzero(labels == digit)[:20]:
            pixels = (255 - images[index].reshape(8, 8) / 16 * 255).astype(np.uint8)
            Image.fromarray(pixels).resize((32, 32)).save(folder / str(digit) / f"{index:04}.png")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """No test reads or writes the user's cache, and none downloads."""
    monkeypatch.setenv("PORTNET_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("PORTNET_OFFLINE", "1")
