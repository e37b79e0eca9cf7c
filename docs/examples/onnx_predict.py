"""Run a file of `srnet export --format onnx` with onnxruntime, NumPy and Pillow alone.

Usage: python onnx_predict.py model.onnx image.jpg drawn.png
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw

model, source, target = sys.argv[1:]
about = json.loads(Path(model).with_suffix(".json").read_text())
original = image = Image.open(source).convert("RGB")
resize = about["input"]["resize"]
if resize:
    scale = resize["short_side"] / min(image.size)
    scale = min(scale, resize.get("long_side_at_most", np.inf) / max(image.size))
    image = image.resize([int(length * scale + 0.5) for length in image.size], Image.BILINEAR)
    if crop := resize.get("center_crop"):
        x, y = (round((length - crop) / 2) for length in image.size)
        image = image.crop((x, y, x + crop, y + crop))
*_, height, width = about["input"]["shape"]
if isinstance(height, int):  # a file for one size
    image = image.resize((width, height), Image.BILINEAR)
pixels = np.asarray(image, np.float32)[..., :: -1 if about["input"]["channels"] == "BGR" else 1]
pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
pixels = pixels[None] if about["input"]["layout"] == "NCHW" else pixels
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
outputs = dict(zip(about["outputs"], session.run(None, {"image": pixels}), strict=True))

classes, drawn = about["classes"], original
maps = outputs.get("sem_seg", outputs.get("logits", np.zeros(0)).squeeze())
if maps.ndim == 3:  # logits of each pixel
    palette = np.random.default_rng(0).integers(0, 256, (len(maps), 3))
    palette = np.array(classes.get("stuff_colors", palette), np.uint8)
    labels = Image.fromarray(palette[maps.argmax(0)]).resize(original.size, Image.NEAREST)
    drawn = Image.blend(original, labels, 0.6)
elif maps.size:  # logits of the image
    for index in maps.argsort()[:-6:-1]:
        print(classes.get("classes", range(len(maps)))[index], maps[index])
pen, ratio = ImageDraw.Draw(drawn), original.width / image.width
for i, box in enumerate(outputs.get("boxes", ())):
    score, index = outputs["scores"][i], outputs["classes"][i]
    if score >= 0.5:
        name = classes["thing_classes"][index] if "thing_classes" in classes else index
        pen.rectangle([float(length) * ratio for length in box], outline="red", width=2)
        pen.text((box[:2] * ratio).tolist(), f"{name} {score:.0%}", fill="red")
drawn.save(target)
