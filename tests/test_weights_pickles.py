"""Pickles: plain data are read, code never runs."""

import pickle

import numpy as np
import pytest
from weight_files import KERNEL, legacy, refused, write_zip

from portnet.errors import WeightsError
from portnet.weights import unpickle
from portnet.weights.read import read_weights


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return exec, (f"open({str(self.path)!r}, 'w')",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["numpy", "legacy", "zip"])
def test_never_runs_a_pickle(tmp_path, kind, protocol):
    mark = tmp_path / "ran"
    body = pickle.dumps({"weight": Harm(mark)}, protocol)
    path = tmp_path / "w"
    if kind == "zip":
        write_zip(path, [("archive/data.pkl", body)])
    else:
        path.write_bytes(legacy(body) if kind == "legacy" else body)
    pickle.loads(body)
    assert mark.exists()  # the pickle is a real danger
    mark.unlink()
    with pytest.raises(WeightsError):
        read_weights(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"\x80\x02cos\nsystem\n(S'true'\ntR.", "os.system"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", "builtins.eval"),
        (b"\x80\x02(S'x'\ni__main__\nHarm\n.", "INST"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02}}}s.", "key of a dict"),
        (b"\x80\x02]q\x00h\x00a.", "nested deeper"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "broken"),
        (b"\x80\x02h\x07.", "broken"),
    ],
)
def test_refuses_pickles_beyond_plain_data(tmp_path, body, word):
    (tmp_path / "w.pkl").write_bytes(body)
    refused(tmp_path / "w.pkl", word)


def test_bounds_the_operations_of_a_pickle(tmp_path, monkeypatch):
    monkeypatch.setattr(unpickle, "MAX_OPERATIONS", 1000)
    (tmp_path / "w.pkl").write_bytes(b"\x80\x02" + b"}0" * 498 + b"}.")
    refused(tmp_path / "w.pkl", "no arrays")
    (tmp_path / "w.pkl").write_bytes(b"\x80\x02" + b"}0" * 500 + b"}.")
    refused(tmp_path / "w.pkl", "more than 1000 operations")


def test_refuses_lists_that_unfold_without_end(tmp_path):
    # each list holds the one before ten times: 10**14 entries in 400 bytes
    lists = b"".join(b"](" + b"h%c" % i * 10 + b"eq%c" % (i + 1) for i in range(14))
    (tmp_path / "w.pkl").write_bytes(b"\x80\x02]q\x00" + lists + b".")
    refused(tmp_path / "w.pkl", "entries")


def test_refuses_object_arrays(tmp_path):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"a": np.array([None, {}], dtype=object)}, 4))
    refused(tmp_path / "w.pkl", "dtype")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_numpy_pickles_of_every_protocol(tmp_path, protocol):
    arrays = {
        "c": KERNEL,
        "fortran": np.asfortranarray(KERNEL),
        "big_endian": np.arange(5, dtype=">i4"),
        "half": KERNEL.astype(np.float16),
        "bool": np.array([True, False]),
        "scalar": np.array(3.5),
    }
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(arrays, protocol))
    weights = read_weights(tmp_path / "w.pkl")
    assert list(weights) == list(arrays)
    for name, array in arrays.items():
        assert np.array_equal(weights[name], array)
        assert weights[name].shape == array.shape
