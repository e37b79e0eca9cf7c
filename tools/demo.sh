#!/usr/bin/env bash
# The demo of `make demo`: segment a drawn street with the trained model of this package, then draw
# scenes, train a small model with Squeeze Reasoning on them, evaluate it, and leave pictures and a
# table. Nothing is downloaded. Usage: tools/demo.sh OUTPUT
set -euo pipefail

[ $# -eq 1 ] || { echo "usage: tools/demo.sh OUTPUT" >&2; exit 2; }
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "$1"
output=$(cd "$1" && pwd)
cd "$repository"
config=quick_schedules/scenes_panoptic_fpn_R_18_SR.yaml

export DETECTRON2_DATASETS=${DETECTRON2_DATASETS:-$output/datasets}
if ! mkdir -p "$DETECTRON2_DATASETS" 2> /dev/null || [ ! -w "$DETECTRON2_DATASETS" ]; then
  echo "demo: DETECTRON2_DATASETS=$DETECTRON2_DATASETS cannot be written: $output/datasets is used"
  export DETECTRON2_DATASETS=$output/datasets
fi
# Threads that wait do not spin: on cores that are shared with other work this is several times
# faster, on free ones as fast.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}

echo "demo: 1/5 a street, segmented by the trained model that comes with this package (seconds)"
model=CamVid-SemanticSegmentation/lite0_SR
python -m srnet visualize --config-file "$model.yaml" --input docs/street.jpg --output "$output/street" \
  OUTPUT_DIR "$output/street" MODEL.WEIGHTS "srnet://$model" > "$output/screen.txt" 2>&1 \
  || { tail -n 30 "$output/screen.txt" >&2; echo "demo: segmenting the street failed" >&2; exit 1; }
echo "  $output/street/sheet.png (a drawing: the model learned from photographs)"

echo "demo: 2/5 scenes"
python -m srnet prepare scenes

echo "demo: 3/5 training (minutes) and evaluation; the whole log is $output/log.txt"
# --resume: an interrupted run goes on from its last checkpoint, a finished one is evaluated again.
python -m srnet train --config-file "$config" OUTPUT_DIR "$output" --resume 2>&1 \
  | tee "$output/screen.txt" \
  | sed -u -n -E -e 's/.*eta: +([^ ]+) +iter: ([0-9]+) +total_loss: ([^ ]+).*/  iteration \2: loss \3, \1 left/p' \
    -e 's/.*Inference done ([0-9]+\/[0-9]+)\..*/  evaluated \1 images/p' \
  || { tail -n 30 "$output/screen.txt" >&2; echo "demo: the training failed" >&2; exit 1; }

echo "demo: 4/5 pictures"
python -m srnet visualize --config-file "$config" --num 6 --output "$output/pictures" \
  MODEL.WEIGHTS "$output/model_final.pth" > "$output/screen.txt" 2>&1 \
  || { tail -n 30 "$output/screen.txt" >&2; echo "demo: drawing the pictures failed" >&2; exit 1; }

echo "demo: 5/5 metrics"
echo
python -m srnet metrics "$output" --output "$output/metrics.md"
echo
echo "demo: the street and its segments: $output/street/sheet.png"
echo "demo: image, truth and prediction side by side: $output/pictures/sheet.png"
echo "demo: this table: $output/metrics.md"
