"""The file format by its bytes."""

import json

import numpy as np
import pytest

from dbx.data.safetensors import read_safetensors, write_safetensors


def test_arrays_and_texts_come_back(tmp_path, rng):
    path = tmp_path / "a.safetensors"
    tensors = {
        "w": rng.normal(size=(3, 4)).astype(np.float32),
        "n": np.array(7, np.int32),
        "empty": np.zeros((0, 2), np.float64),
        "flags": np.array([True, False]),
        "turned": rng.normal(size=(4, 3)).T,
    }
    write_safetensors(path, tensors, {"genes": '["a"]'})
    found, about = read_safetensors(path)
    assert about == {"genes": '["a"]'}
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape


def test_the_bytes_are_those_of_the_format(tmp_path):
    """Length of the header in 8 bytes, a JSON header, then the numbers."""
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"x": np.array([1.0, 2.0], np.float32)}, {})
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert header["x"] == {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    np.testing.assert_array_equal(np.frombuffer(content[8 + length :], "<f4"), [1, 2])
    other = tmp_path / "b.safetensors"
    text = b'{"y":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}'
    other.write_bytes(len(text).to_bytes(8, "little") + text + (5).to_bytes(8, "little"))
    np.testing.assert_array_equal(read_safetensors(other)[0]["y"], [5])


def test_what_is_no_such_file_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"x": np.arange(4.0)}, {})
    content = path.read_bytes()
    for wrong in (b"", b"abc", content[:-1], b"\xff" * 64, content[:8] + b"[1]" + content[11:]):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match="not a safetensors file"):
            read_safetensors(path)
    with pytest.raises(ValueError, match="'c' has dtype complex128"):
        write_safetensors(path, {"c": np.ones(1, complex)}, {})


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file .*none"):
        read_safetensors(tmp_path / "none")
