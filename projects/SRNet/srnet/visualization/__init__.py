"""Pictures of images, truths and predictions."""
