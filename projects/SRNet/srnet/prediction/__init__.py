"""Predicting a user's own pictures: from files, folders, videos and cameras to files.

The modules, from the model to the whole run:

* `predictor`: :class:`Predictor`, from one picture to a model's output.
* `classes`: the names, colours and category ids of a model's classes.
* `inputs`: files, folders, globs, videos and cameras as one stream of named pictures.
* `outputs`: what is written for each picture.
* `pipeline`: reading, the network and writing side by side, in bounded memory.
* `visualize`: sheets of image, truth and predictions.
"""

from .pipeline import Summary, predict
from .predictor import Predictor

__all__ = ["Predictor", "Summary", "predict"]
