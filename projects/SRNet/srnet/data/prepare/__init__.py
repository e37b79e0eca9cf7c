"""From a dataset's official release to the layout that srnet.data reads: one file a dataset."""
