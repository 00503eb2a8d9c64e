"""A network exported with every axis open, replayed by ONNX Runtime."""

from __future__ import annotations

import onnxruntime
import torch
from torch import Tensor, nn

from models.export import to_onnx


def exported(net: nn.Module, *inputs: Tensor) -> onnxruntime.InferenceSession:
    """A session of `net` traced on `inputs`, whose batch, height and width may change."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    content = to_onnx(net, inputs, [f"input{index}" for index in range(len(inputs))])
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def answered(session: onnxruntime.InferenceSession, *inputs: Tensor) -> Tensor:
    feed = {f"input{index}": tensor.numpy() for index, tensor in enumerate(inputs)}
    return torch.from_numpy(session.run(None, feed)[0])
