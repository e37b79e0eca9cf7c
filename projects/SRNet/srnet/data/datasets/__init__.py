"""The datasets: one file each registers its splits."""
