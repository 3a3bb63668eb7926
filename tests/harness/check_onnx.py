"""Holds an encoder's ONNX file against the reference checker and runtime.

    check_onnx.py MODEL.onnx INPUTS.f32 OUT.f32

INPUTS.f32 holds images [n, channels, height, width] as little-endian f32, n following from the file's size and the
model's input. OUT.f32 gets the embeddings [n, d] in the same form. Prints one JSON object: n, d, and how often each
operator occurs. Exits non-zero with a message where the checker or the runtime refuses the model.
"""

import collections
import json
import sys

import numpy as np
import onnx
import onnxruntime


def main(model_path, inputs_path, out_path):
    model = onnx.load(model_path)
    onnx.checker.check_model(model, full_check=True)

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model_path, options, providers=["CPUExecutionProvider"])
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
