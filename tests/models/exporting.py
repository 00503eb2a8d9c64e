"""A network exported with every axis open, replayed by ONNX Runtime."""

from __future__ import annotations

import io
import warnings

import onnxruntime
import torch
from torch import Tensor, nn


def exported(net: nn.Module, *inputs: Tensor) -> onnxruntime.InferenceSession:
    """A session of `net` traced on `inputs`, whose batch, height and width may change."""
    names = [f"input{index}" for index in range(len(inputs))]
    axes = {name: {0: "batch", 2: "height", 3: "width"} for name in (*names, "answer")}
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter calls itself legacy
        torch.onnx.export(
            net, inputs, out, input_names=names, output_names=["answer"], dynamic_axes=axes, dynamo=False
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(out.getvalue(), options, providers=["CPUExecutionProvider"])


def answered(session: onnxruntime.InferenceSession, *inputs: Tensor) -> Tensor:
    feed = {f"input{index}": tensor.numpy() for index, tensor in enumerate(inputs)}
    return torch.from_numpy(session.run(None, feed)[0])
