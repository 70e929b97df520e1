"""What goes to a device in one copy comes apart again. The copy itself runs on CUDA alone."""

import numpy as np
import torch

from tureen.model.transfer import download, parts, staged, upload

ARRAYS = {
    "ids": np.arange(15, dtype=np.int64).reshape(3, 5),
    "starts": np.array([0, 4, 7], np.int32),
    "none": np.zeros((2, 0), np.float32),
    "weights": np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 2, 2),
    "columns": np.arange(6, dtype=np.int64).reshape(2, 3).T,  # not in the order of memory
}


def test_one_block_holds_all_arrays():
    whole = staged(ARRAYS, pinned=False)
    # 120, 12, 0, 48 and 48 bytes, each at a multiple of 64
    assert whole.shape == (128 + 64 + 0 + 64 + 64,)
    tensors = parts(whole, ARRAYS)
    assert list(tensors) == list(ARRAYS)
    for name, array in ARRAYS.items():
        torch.testing.assert_close(tensors[name], torch.from_numpy(array))
        assert tensors[name].data_ptr() % 4 == 0


def test_on_the_cpu_nothing_is_copied():
    array = np.zeros(3, np.int64)
    tensor = upload({"a": array}, torch.device("cpu"))["a"]
    array[1] = 5
    assert tensor.tolist() == [0, 5, 0]
    assert download(tensor)().tolist() == [0, 5, 0]
