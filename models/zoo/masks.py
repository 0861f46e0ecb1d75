"""What ONNX Runtime's f32 and integers give for the pixels that elek hands to the U-Nets of `shared`, for tests/golden.rs.

    mkdir target/inputs
    ELEK_INPUTS=$PWD/target/inputs cargo test --release --test golden every_picture
    python models/zoo/masks.py SHARED tests/golden/onnx_runtime.csv target/inputs tests/golden/masks.bin

Of the same pixels, because JPEG decoders differ by a step here and there, and int8 networks answer to that.

Deflated: for each line of the table first the f32 graph, then the int8 graph (fused): the largest probability as f32, and
the mask at 0.5 in bits, the highest first.
"""

import csv
import sys
import zlib

import numpy as np
import onnxruntime as ort

SIDE = 256


def main(shared, table, inputs, out):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    sessions, data = {}, b""
    with open(table, newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            picture = np.fromfile(f"{inputs}/{number}.rgb", np.uint8).reshape(SIDE, SIDE, 3)
            x = ((picture.astype(np.float32) - 127) / 128).transpose(2, 0, 1)[None]
            for form in ("", ".int8"):
                key = f"{shared}/models/{row['model']}{form}.onnx"
                if key not in sessions:
                    sessions[key] = ort.InferenceSession(key, options, providers=["CPUExecutionProvider"])
                mask = sessions[key].run(None, {"image": x})[0].reshape(SIDE, SIDE)
                data += mask.max().astype("<f4").tobytes() + np.packbits(mask > 0.5).tobytes()
    with open(out, "wb") as file:
        file.write(zlib.compress(data, 9))
    print(f"{len(data)} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
