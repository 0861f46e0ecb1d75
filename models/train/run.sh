#!/bin/sh
# Makes models/*.onnx and models/manifest.toml: renders, trains, exports, quantizes, measures.
# About 25 minutes on one free core, 4 GB of memory, 11 GB of disk in target/models
# (6 GB of it PyTorch as PyPI has it, with libraries for graphics cards that are not used).
# What is there already is taken as it is: to begin anew, remove target/models.
set -eu
cd "$(dirname "$0")/../.."
work=${WORK:-target/models}
mkdir -p "$work/out"

if [ ! -x "$work/venv/bin/pip" ]; then
    python3 -m venv "$work/venv" || {
        echo "python3 cannot make a virtual environment; run: sudo apt-get install python3-venv" >&2
        exit 1
    }
fi
# Also when the environment is there: an earlier run may have been cut short.
"$work/venv/bin/pip" install --quiet --requirement models/train/requirements.txt

# Most likely built already, by the demo. Pictures are the same in every profile.
cargo build --release --bin elek
elek=${CARGO_TARGET_DIR:-target}/release/elek
render() { [ -e "$work/$1/labels.csv" ] || "$elek" simulate --render "$work/$1" --count "$2" --seed "$3" --width "$4" --height "$5"; }
# Cut close for learning; as the camera sees them for measuring.
render train 6000 1001 352 352
render val 600 2002 640 480
render test 1000 3003 640 480

python=$work/venv/bin/python
"$python" models/train/train.py "$work" "$work/out"
"$python" models/train/export.py "$work" "$work/out" models
"$python" models/train/figures.py models
