"""Holds an encoder's ONNX file against the reference checker and runtime.

    check_onnx.py MODEL.onnx INPUTS.f32 OUT.f32

INPUTS.f32 holds images [n, channels, height, width] as little-endian f32, n following from the file's size and the
model's input. OUT.f32 gets the embeddings [n, d] in the same form. Prints one JSON object: n, d, and how often each
operator occurs. Exits non-zero with a message where the checker or the runtime refuses the model.
"""

import collections
import json
import pathlib
import platform
import sys

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime


def has_vnni():
    """Whether this is an x86-64 with instructions for products of bytes, or no x86-64 at all."""
    return platform.machine() != "x86_64" or "vnni" in pathlib.Path("/proc/cpuinfo").read_text()


def weights_to_uint8(model):
    """Writes the int8 weights w as uint8 with a zero point of 128, w + 128, which is the same model. Where a processor has no VNNI
    onnxruntime adds two products of uint8 and int8 in 16 bits, which saturate; of uint8 and uint8 it does not."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "QLinearConv":
            for name in (node.input[3], node.input[5]):
                values = onnx.numpy_helper.to_array(tensors[name])
                if values.dtype == np.int8:
                    shifted = (values.astype(np.int16) + 128).astype(np.uint8)
                    tensors[name].CopyFrom(onnx.numpy_helper.from_array(shifted, name))


def main(model_path, inputs_path, out_path):
    model = onnx.load(model_path)
    onnx.checker.check_model(model, full_check=True)

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not has_vnni():
        weights_to_uint8(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    (embedding,) = session.get_outputs()
    if image.name != "image" or image.shape[0] != 1 or len(image.shape) != 4:
        sys.exit(f"{model_path}: input {image.name} {image.shape}: expected image [1, channels, height, width]")
    if embedding.name != "embedding" or len(embedding.shape) != 2:
        sys.exit(f"{model_path}: output {embedding.name} {embedding.shape}: expected embedding [1, d]")

    values = np.fromfile(inputs_path, dtype="<f4")
    if values.size == 0 or values.size % np.prod(image.shape) != 0:
        sys.exit(f"{inputs_path}: {values.size} values do not make images of {image.shape[1:]}")
    images = values.reshape(-1, *image.shape[1:])
    rows = np.concatenate([session.run(["embedding"], {"image": x[None]})[0] for x in images])
    rows.astype("<f4").tofile(out_path)
    ops = collections.Counter(node.op_type for node in model.graph.node)
    print(json.dumps({"n": len(rows), "d": rows.shape[1], "ops": ops}))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
